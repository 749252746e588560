"""The reload of nginx, for callers that must know when the new settings serve."""

RELOAD = (
    "nginx -t -q || exit; "
    "serves() { tr '\\0' ' ' 2>/dev/null <\"$1/cmdline\" | grep -q '^nginx: worker process *$'; }; "
    "master=$(systemctl show --property MainPID --value nginx.service); old=; "
    'for s in $(grep -lsx "PPid:.$master" /proc/[0-9]*/status); do '
    'if serves "${s%/status}"; then old="$old ${s%/status}"; fi; done; '
    "systemctl reload-or-restart nginx || exit; "
    'for p in $old; do for i in $(seq 150); do serves "$p" || continue 2; sleep 0.1; done; '
    "echo 'nginx did not take its new settings: old workers still serve' >&2; "
    "tail -n 5 /var/log/nginx/error.log >&2; exit 1; done"
)
"""Reload, and wait until no worker with the old settings takes in a connection: it would close it after a request,
and a client that has just sent another one on it loses that. A master that cannot reload says so in its log alone.
Only workers of this service count: a container may have an nginx of its own, which the host sees too."""
