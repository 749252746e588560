# Ends what take_out.sh did.
# Given: flag (file).
systemctl stop 'roadbed-drain-*.timer'
if nft list table inet roadbed_drain > /dev/null 2>&1; then nft delete table inet roadbed_drain || exit; fi
rm -f "$flag"
