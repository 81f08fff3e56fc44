# OpenDNSSEC's tool, with the token as its repository.
cat >conf.xml <<END
<?xml version="1.0" encoding="UTF-8"?>
<Configuration><RepositoryList><Repository name="claviger">
<Module>$M</Module><TokenLabel>claviger</TokenLabel><PIN>$PIN</PIN>
</Repository></RepositoryList></Configuration>
END
tool() { ods-hsmutil -c conf.xml "$@" 2>&1; }
say "info"; tool info
say "list"; tool list
for k in "rsa 2048" "ecdsa 256" "ecdsa 384" "ed25519"; do
	say "generate $k"
	# shellcheck disable=SC2086 # type and size
	tool generate claviger $k | tee log || true
	id=$(sed -n 's/^Key generation successful: //p' log)
	[ -n "$id" ] || continue
	tool list | grep "$id"
	tool dnskey "$id" example.com 257 8 || true
	tool remove "$id"
	tool list | grep "$id" || echo "gone"
done
say "test"; tool test claviger || echo "status $?"
