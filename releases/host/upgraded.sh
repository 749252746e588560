# How far the upgrade is: "running", then its last line; or "ended CODE", then the last lines; or "died".
# Given: unit, log, result.
if [ -f "$result" ]; then
    read -r code < "$result"
    echo "ended $code"
    tail -n 15 "$log"
elif systemctl --quiet is-active "$unit"; then
    echo running
    tail -n 1 "$log" 2> /dev/null || : # it has not said anything yet
elif [ -f "$result" ]; then
    read -r code < "$result"
    echo "ended $code"
else
    echo died
    tail -n 15 "$log" 2> /dev/null || :
fi
