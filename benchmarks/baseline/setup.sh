#!/bin/sh
# On the machine, as root: the folders of the baselines, plain nginx, and pm2 from the archive that was copied here.
# setup.sh RELEASE...   (folders in /srv/storefront/releases)
set -eu
cd /opt/baseline
mkdir -p pm2 home
tar -xzf pm2.tar.gz -C pm2
chown storefront: home
node=$(readlink "/srv/storefront/releases/$1/.roadbed/node")
ln -sfT "$node" node
ln -sfT "/srv/storefront/releases/$1/app" current
cp shop.service /etc/systemd/system/shop.service
systemctl daemon-reload
nginx -t -q -c /opt/baseline/nginx.conf
systemctl stop baseline-nginx 2> /dev/null || :
systemd-run --quiet --collect --unit=baseline-nginx nginx -c /opt/baseline/nginx.conf -g 'daemon off;'
