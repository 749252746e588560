# What is owed or was left on a host, one fact a line: a word, then its value. Read by releases/status.py.
# Given: root (/srv/<app>).
for debt in /var/lib/roadbed/pending/*; do
    if [ -e "$debt" ]; then echo "pending ${debt##*/}"; fi
done
for partial in "$root"/releases/.*.partial; do
    if [ -d "$partial" ]; then partial=${partial##*/.} && echo "partial ${partial%.partial}"; fi
done
