#!/bin/bash
# Holds the lock of a stack on this host for one run: for as long as this shell lives, and no longer (engine/lock.py).
# Given: roadbed-lock, file, token, patience (seconds), take (yes: from whoever holds it; or from the holder of a token).
# Standard input: the owner, then what it does; a line for each sign of life; last "end <result>".
# Says "holds", or "held" and ends with 75; then each sign of life back; last "bye".
{
    trap '' HUP PIPE # the end of the connection is seen as the end of standard input, and has its line in the journal
    file=$2 token=$3 patience=$4 take=$5
    IFS= read -r owner
    IFS= read -r what

    # Whether the record is that of a living holder. A process id alone may be another's by now: the token decides.
    held() {
        { read -r pid; read -r its; read -r since; IFS= read -r its_owner; IFS= read -r its_what; } < "$file"
        [[ $pid =~ ^[0-9]+$ && -n $its && -r /proc/$pid/cmdline ]] || return
        mapfile -d '' -t words < "/proc/$pid/cmdline"
        [[ " ${words[*]} " == *" $its "* ]]
    }
    log() {
        timeout 5 logger -t roadbed -- "$1" 2> /dev/null 9>&- || :
    }

    [ -d "${file%/*}" ] || (umask 022 && mkdir -p "${file%/*}") || exit 1
    umask 077
    exec 9>> "$file" || exit 1
    before='' mine=''
    for _ in {1..30}; do
        if flock -n 9; then
            mine=yes
            break
        fi
        if held; then
            before="$since $EPOCHSECONDS $pid $its $its_owner $its_what"
            if [ "$take" != yes ] && [ "$take" != "$its" ]; then
                echo "held $before"
                exit 75
            fi
            kill "$pid"
        fi
        sleep 0.1 # taken but not written yet, given back but not released yet, or killed but not dead yet
    done 2> /dev/null
    if [ -z "$mine" ]; then
        echo "$file is locked by something that is no run of Roadbed" >&2
        exit 1
    fi
    printf '%s\n' $$ "$token" "$EPOCHSECONDS" "$owner" "$what" > "$file" || exit 1
    echo "holds $before"
    log "$owner: $what: began${before:+, and took the lock from ${before#* * * * }}"

    result="interrupted: the connection ended"
    while :; do
        IFS= read -r -t "$patience" line
        status=$?
        if ((status > 128)); then
            result="interrupted: no sign of life for $patience s"
            break
        fi
        ((status == 0)) || break
        if [[ $line == 'end '* ]]; then
            result=${line#end }
            break
        fi
        echo "$line"
    done 2> /dev/null
    : > "$file"
    exec 9>&-
    echo bye 2> /dev/null
    log "$owner: $what: $result"
    exit 0
}
