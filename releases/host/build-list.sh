# Says what a finished build consists of: hash and path of every file, then links, then programs. Runs as the user of
# builds. Given: dist (folder of the build), project (folder of the project).
set -eu
export LC_ALL=C
for part in "$dist/standalone" "$dist/static" "$project/public"; do
    [ -d "$part" ] || continue
    find "$part" -type f -exec sha256sum {} +
    find "$part" -type l -printf 'link %l\n%p\n'
    find "$part" -type f -perm -100 -printf 'program %p\n'
done
sha256sum "$dist/required-server-files.json" "$dist/roadbed-build.json"
