# Runs in the unit of a build. Its standard input is a line to the control machine, which sends a byte every few
# seconds: when that ends, or nothing comes for a while, this process ends, and systemd ends all that the unit has.
# Arguments: seconds without a byte, and the command.
exec 3<&0 < /dev/null 2>&1
silence=$1
shift
main=$$
(
    while [ "$(timeout "$silence" head -c 1 <&3 | wc -c)" -eq 1 ]; do :; done
    kill -KILL "$main"
) > /dev/null 2>&1 &
"$@" 3<&- &
wait $!
code=$?

# How much memory the unit had, and whether the kernel has killed something in it. cgroup v2, then v1.
while IFS=: read -r number controllers path; do
    case $number,$controllers in
        0,) peak=/sys/fs/cgroup$path/memory.peak events=/sys/fs/cgroup$path/memory.events ;;
        *memory*)
            peak=/sys/fs/cgroup/memory$path/memory.max_usage_in_bytes
            events=/sys/fs/cgroup/memory$path/memory.oom_control
            ;;
        *) continue ;;
    esac
    if read -r most < "$peak"; then break; fi
done < /proc/self/cgroup 2> /dev/null
killed=$(sed -n 's/^oom_kill //p' "$events" 2> /dev/null)
printf '\nroadbed-build: peak=%s killed=%s\n' "${most:-}" "${killed:-}"
exit "$code"
