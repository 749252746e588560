# Takes what the last source has of a new one and says which files lack, one path a line. Runs as the user of builds.
# Given: work (folder of the app's builds), sums (the uploaded list of files, in the format of sha256sum).
set -eu
export LC_ALL=C
cd "$work"
rm -rf next
mkdir -p home source next
(cd source && sha256sum --check "$sums" 2> /dev/null | sed -n 's/: OK$//p' | sort) > .same || :
(cd source && xargs -r -d '\n' cp --parents --reflink=auto --preserve=timestamps -t ../next) < .same
cut -c 67- "$sums" | sort | comm -23 - .same
rm -f .same
