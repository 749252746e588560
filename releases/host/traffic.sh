# Counts the requests that nginx has logged since a mark, and prints the new mark and the sums, never a request itself
# but for the few lines that show a failure. Read by releases/traffic.py.
# Given: log, inode and offset (the mark; empty inode: the last $most bytes), most (bytes to read at once), groups (upstream
# group, slot and release of each, with blanks between), slot (whose failures are shown), lines (how many), without (end
# of the paths that are not counted, or empty).
renice -n 10 $$ > /dev/null
at=0 end=0
if [ -f "$log" ]; then
    at=$(stat -c %i "$log")
    end=$(stat -c %s "$log")
fi
echo "mark $at $end"
piece() { # file, first byte, end
    from=$2
    if [ $(($3 - from)) -gt "$most" ]; then
        from=$(($3 - most))
        [ -z "$inode" ] || echo "skipped $((from - $2))"
    fi
    if [ "$from" -lt "$3" ]; then tail -c "+$((from + 1))" "$1" | head -c "$(($3 - from))"; fi
}
if [ "$at" = 0 ]; then exit; fi
{
    if [ -n "$inode" ] && [ "$at" != "$inode" ]; then # the log was rotated
        if [ -f "$log.1" ] && [ "$(stat -c %i "$log.1")" = "$inode" ]; then
            piece "$log.1" "$offset" "$(stat -c %s "$log.1")"
        fi
        offset=0
    fi
    if [ "$offset" -gt "$end" ]; then offset=0; fi
    piece "$log" "$offset" "$end"
} | awk -v groups="$groups" -v slot="$slot" -v lines="$lines" -v without="$without" '
    function text(name,   at, rest) {
        at = index($0, ",\"" name "\":\"")
        if (!at) return ""
        rest = substr($0, at + length(name) + 5)
        return substr(rest, 1, index(rest, "\"") - 1)
    }
    function count(kind, whose, value,   parts, number, total, seen, i, unit) {
        number = split(value, parts, /[, :]+/) # one time for each instance that was tried
        for (i = 1; i <= number; i++) if (parts[i] ~ /^[0-9.]+$/) { total += parts[i]; seen = 1 }
        if (!seen) return
        total = int(total * 1000 + 0.5)
        for (unit = 1; total / unit >= 100; unit *= 10);
        times[kind " " whose " " int(total / unit) * unit]++
    }
    BEGIN {
        number = split(groups, words, " ")
        for (i = 1; i + 2 <= number; i += 3) { of[words[i]] = words[i + 1]; release[words[i]] = words[i + 2] }
    }
    /^skipped / { print }
    /^[{]"status":/ {
        group = text("group")
        if (!(group in of) || text("upstream") == "") next
        said = text("release")
        if (said != "" && said != release[group]) next # what ran in the slot before
        path = text("path")
        if (index(path, "/.roadbed/") == 1) next
        if (without != "" && substr(path, length(path) - length(without) + 1) == without) next
        requests[of[group]]++
        status = substr($0, 11) + 0
        if (status >= 500) {
            failed[of[group]]++
            if (of[group] == slot && lines > 0) { lines--; print "line " $0 }
        } else {
            count("first", of[group], text("upstream_header_time"))
            count("whole", of[group], text("upstream_response_time"))
        }
    }
    END {
        for (one in requests) print "sum " one " " requests[one] " " failed[one] + 0
        for (one in times) print one " " times[one]
    }
'
