# Makes what needs no bytes, in the folder of the new release; goes there with the archive, and unpack runs it.
# In .renamed are the files that differ from those of base by the release's id alone, in .modes the mode of each file
# that was not sent, in .manifest how the manifest differs from that of base. Given: base (a release here, or empty),
# id, apply (the awk program that makes a text from another one and the difference).
if [ -n "$base" ]; then
    here=$PWD
    (cd "../$base" && xargs -r -d '\n' cp --parents --reflink=auto -t "$here" < "$here/.renamed")
    LC_ALL=C xargs -r -d '\n' sed -i "s/$base/$id/g" < .renamed
fi
if [ -f .manifest ]; then
    LC_ALL=C awk "$apply" "../$base/.roadbed/manifest.json" .manifest > .roadbed/manifest.json
fi
for mode in 640 644 750 755; do
    sed -n "s/^$mode //p" .modes | xargs -r -d '\n' chmod "$mode"
done
rm -f .derive .renamed .modes .manifest
