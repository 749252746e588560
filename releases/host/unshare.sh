# Takes every share back: all visitors go where the flag active.<slot> says. May be repeated.
# Given: root (/srv/<app>), route (folder of the flag files), switch (the flag without which the others do not count).
set -eu
rm -f "$route/$switch"
rm -f "$route"/canary.*.* "$route"/named.*.* "$root"/public.? "$root"/.public.?.new
