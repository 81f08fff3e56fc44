package server

// matrixRow is how TestMatrix calls an operation.
type matrixRow struct {
	path   string // below the mount
	body   string // $TOKEN, $ACCESSOR, $PUBLIC, $CIPHERTEXT, $SIGNATURE, $BACKUP, $MIGRATION stand for known ones
	status int    // of the call that is allowed
	// unknown is path and body of a call for something that is not there.
	unknown string
	// unknownIs is the status of that call if it is neither 400 nor 404.
	unknownIs int
	// takesAny says why there is nothing unknown for the operation.
	takesAny string
	// alone: the operation would disturb the others, so it has a server to itself.
	alone bool
}

func (r *matrixRow) unknownStatuses() []int {
	if r.unknownIs != 0 {
		return []int{r.unknownIs}
	}
	return []int{400, 404}
}

const (
	makesIt  = "makes what is not there"
	noMatter = "removing what is not there is a success"
)

// matrixRows has a row for every operation of the table.
var matrixRows = map[string]matrixRow{
	"sys.init-status":    {path: "init", status: 200},
	"sys.init":           {path: "init", body: `{"secret_shares":1000}`, status: 400},
	"sys.seal-status":    {path: "seal-status", status: 200},
	"sys.unseal":         {path: "unseal", body: `{"migrate":true}`, status: 400},
	"sys.health":         {path: "health", status: 200},
	"sys.leader":         {path: "leader", status: 200},
	"sys.seal":           {path: "seal", status: 204, alone: true},
	"sys.hsm":            {path: "hsm", status: 200},
	"sys.hsm.objects":    {path: "hsm/objects", status: 200, takesAny: "lists what fits"},
	"sys.metrics":        {path: "metrics", status: 200},
	"sys.openapi":        {path: "internal/specs/openapi", status: 200},
	"sys.help":           {path: "internal/specs/help/sys/internal/specs/help/x", status: 200, unknown: "internal/specs/help/transit/nothing"},
	"sys.mount.list":     {path: "mounts", status: 200},
	"sys.mount.read":     {path: "mounts/transit", status: 200, unknown: "mounts/nowhere"},
	"sys.mount.create":   {path: "mounts/matrix", body: `{"type":"transit"}`, status: 204, unknown: `mounts/matrix {"type":"nothing"}`},
	"sys.mount.holder":   {path: "internal/ui/mounts/sys/internal", status: 200, takesAny: "answers 403 for an unknown mount, as for one that the caller may not know"},
	"sys.mount.delete":   {path: "mounts/transit", status: 204, alone: true, takesAny: noMatter},
	"sys.mount.tuning":   {path: "mounts/transit/tune", status: 200, unknown: "mounts/nowhere/tune"},
	"sys.mount.tune":     {path: "mounts/transit/tune", body: `{"description":"tuned"}`, status: 204, unknown: `mounts/nowhere/tune {"description":"x"}`},
	"sys.key-status":     {path: "key-status", status: 200},
	"sys.mount.holders":  {path: "internal/ui/mounts", status: 200},
	"sys.remount":        {path: "remount", body: `{"from":"transit","to":"moved"}`, status: 200, alone: true},
	"sys.remount.status": {path: "remount/status/$MIGRATION", status: 200, unknown: "remount/status/none"},
	"sys.auth.read":      {path: "auth/token", status: 200, unknown: "auth/none"},
	"sys.auth.create":    {path: "auth/other", body: `{"type":"userpass"}`, status: 400, unknown: `auth/other {"type":"none"}`},
	"sys.auth.delete":    {path: "auth/other", status: 204, takesAny: noMatter},
	"sys.auth.tuning":    {path: "auth/token/tune", status: 200, unknown: "auth/none/tune"},
	"sys.auth.tune":      {path: "auth/token/tune", body: `{"description":"client tokens"}`, status: 204, unknown: `auth/none/tune {"description":"x"}`},
	"sys.catalog.read":   {path: "plugins/catalog", status: 200},
	"sys.catalog.list":   {path: "plugins/catalog/secret", status: 200, unknown: "plugins/catalog/none"},
	"sys.catalog.plugin": {path: "plugins/catalog/secret/transit", status: 200, unknown: "plugins/catalog/secret/none"},

	"sys.rotate":                     {path: "rotate", status: 204},
	"sys.rotate.keyring":             {path: "rotate/keyring", status: 204},
	"sys.rotate.config.read":         {path: "rotate/config", status: 200},
	"sys.rotate.config":              {path: "rotate/config", body: `{"enabled":true}`, status: 204},
	"sys.rotate.keyring.config.read": {path: "rotate/keyring/config", status: 200},
	"sys.rotate.keyring.config":      {path: "rotate/keyring/config", body: `{"interval":"48h"}`, status: 204},

	"sys.generate-root.status":       {path: "generate-root/attempt", status: 200},
	"sys.generate-root.start":        {path: "generate-root/attempt", body: `{"otp":"too short"}`, status: 400},
	"sys.generate-root.cancel":       {path: "generate-root/attempt", status: 204},
	"sys.generate-root.update":       {path: "generate-root/update", body: `{"key":"no share"}`, status: 400},
	"sys.generate-root-token.status": {path: "generate-root-token/attempt", status: 200},
	"sys.generate-root-token.start":  {path: "generate-root-token/attempt", body: `{}`, status: 200, alone: true},
	"sys.generate-root-token.cancel": {path: "generate-root-token/attempt", status: 204},
	"sys.generate-root-token.update": {path: "generate-root-token/update", body: `{"key":"no share"}`, status: 400},

	"sys.audit.list":              {path: "audit", status: 200},
	"sys.audit.enable":            {path: "audit/other", body: `{"type":"file"}`, status: 400, takesAny: "refuses every device"},
	"sys.audit.disable":           {path: "audit/file", status: 400, takesAny: "refuses every device"},
	"sys.audit.hash":              {path: "audit-hash/file", body: `{"input":"x"}`, status: 200, unknown: `audit-hash/none {"input":"x"}`},
	"sys.config.cors":             {path: "config/cors", status: 200},
	"sys.config.request-headers":  {path: "config/auditing/request-headers", status: 200},
	"sys.config.state":            {path: "config/state/sanitized", status: 200},
	"sys.ha-status":               {path: "ha-status", status: 200},
	"sys.tools.random":            {path: "tools/random", body: `{}`, status: 200},
	"sys.tools.random.one":        {path: "tools/random/16", body: `{}`, status: 200, unknown: "tools/random/nowhere {}"},
	"sys.tools.random.both":       {path: "tools/random/platform/16", body: `{}`, status: 200, unknown: "tools/random/nowhere/16 {}"},
	"sys.tools.hash":              {path: "tools/hash", body: `{"input":"aGk="}`, status: 200},
	"sys.tools.hash.algorithm":    {path: "tools/hash/sha2-512", body: `{"input":"aGk="}`, status: 200, unknown: `tools/hash/nothing {"input":"aGk="}`},
	"sys.wrapping.wrap":           {path: "wrapping/wrap", body: `{"a":"b"}`, status: 400},
	"sys.wrapping.unwrap":         {path: "wrapping/unwrap", body: `{"token":"s.none"}`, status: 400},
	"sys.wrapping.rewrap":         {path: "wrapping/rewrap", body: `{"token":"s.none"}`, status: 400},
	"sys.wrapping.lookup":         {path: "wrapping/lookup", body: `{"token":"s.none"}`, status: 400},
	"sys.auth.list":               {path: "auth", status: 200},
	"sys.capabilities":            {path: "capabilities", body: `{"token":"$TOKEN","paths":["x"]}`, status: 200, unknown: `capabilities {"token":"s.none","paths":["x"]}`},
	"sys.capabilities-self":       {path: "capabilities-self", body: `{"paths":["x"]}`, status: 200},
	"sys.capabilities-accessor":   {path: "capabilities-accessor", body: `{"accessor":"$ACCESSOR","paths":["x"]}`, status: 200, unknown: `capabilities-accessor {"accessor":"none","paths":["x"]}`},
	"sys.policy.list":             {path: "policies/acl", status: 200},
	"sys.policy.read":             {path: "policies/acl/known", status: 200, unknown: "policies/acl/unknown"},
	"sys.policy.write":            {path: "policies/acl/written", body: `{"policy":"path \"x\" {}"}`, status: 204, takesAny: makesIt},
	"sys.policy.delete":           {path: "policies/acl/old", status: 204, takesAny: noMatter},
	"sys.policy.old.list":         {path: "policy", status: 200},
	"sys.policy.old.list-by-read": {path: "policy", status: 200},
	"sys.policy.old.read":         {path: "policy/known", status: 200, unknown: "policy/unknown"},
	"sys.policy.old.write":        {path: "policy/written", body: `{"policy":"path \"x\" {}"}`, status: 204, takesAny: makesIt},
	"sys.policy.old.delete":       {path: "policy/old", status: 204, takesAny: noMatter},

	"token.create":          {path: "create", body: `{"ttl":"1h"}`, status: 200},
	"token.create-orphan":   {path: "create-orphan", body: `{"ttl":"1h"}`, status: 200},
	"token.lookup":          {path: "lookup", body: `{"token":"$TOKEN"}`, status: 200, unknown: `lookup {"token":"s.none"}`, unknownIs: 403},
	"token.lookup-self":     {path: "lookup-self", status: 200},
	"token.lookup-accessor": {path: "lookup-accessor", body: `{"accessor":"$ACCESSOR"}`, status: 200, unknown: `lookup-accessor {"accessor":"none"}`},
	"token.renew":           {path: "renew", body: `{"token":"$TOKEN"}`, status: 200, unknown: `renew {"token":"s.none"}`},
	"token.renew-self":      {path: "renew-self", body: `{}`, status: 200},
	"token.revoke":          {path: "revoke", body: `{"token":"$TOKEN"}`, status: 204, takesAny: noMatter},
	"token.revoke-self":     {path: "revoke-self", status: 204},
	"token.revoke-accessor": {path: "revoke-accessor", body: `{"accessor":"$ACCESSOR"}`, status: 204, takesAny: noMatter},

	"token.renew-accessor": {path: "renew-accessor", body: `{"accessor":"$ACCESSOR"}`, status: 200, unknown: `renew-accessor {"accessor":"none"}`},

	"sys.step-down":                {path: "step-down", status: 204},
	"sys.leases.lookup":            {path: "leases/lookup", body: `{"lease_id":"$LEASE"}`, status: 200, unknown: `leases/lookup {"lease_id":"none"}`},
	"sys.leases.list":              {path: "leases/lookup", status: 200},
	"sys.leases.list-below":        {path: "leases/lookup/auth/token", status: 200, unknown: "leases/lookup/nowhere"},
	"sys.leases.count":             {path: "leases/count", status: 200},
	"sys.leases.renew":             {path: "leases/renew", body: `{"lease_id":"$LEASE"}`, status: 400, unknown: `leases/renew {"lease_id":"none"}`},
	"sys.leases.renew.named":       {path: "leases/renew/none", status: 400, unknown: "leases/renew/nowhere"},
	"sys.leases.old.renew":         {path: "renew", body: `{"lease_id":"none"}`, status: 400, unknown: `renew {"lease_id":"nowhere"}`},
	"sys.leases.old.renew.named":   {path: "renew/none", status: 400, unknown: "renew/nowhere"},
	"sys.leases.revoke":            {path: "leases/revoke", body: `{"lease_id":"$LEASE"}`, status: 204, takesAny: noMatter},
	"sys.leases.revoke.named":      {path: "leases/revoke/none", status: 204, takesAny: noMatter},
	"sys.leases.old.revoke":        {path: "revoke", body: `{"lease_id":"none"}`, status: 204, takesAny: noMatter},
	"sys.leases.old.revoke.named":  {path: "revoke/none", status: 204, takesAny: noMatter},
	"sys.leases.revoke-prefix":     {path: "leases/revoke-prefix/auth/token/create-orphan", status: 204, takesAny: noMatter},
	"sys.leases.old.revoke-prefix": {path: "revoke-prefix/auth/token/create-orphan", status: 204, takesAny: noMatter},
	"sys.leases.revoke-force":      {path: "leases/revoke-force/auth/token/create-orphan", status: 204, takesAny: noMatter},
	"sys.leases.old.revoke-force":  {path: "revoke-force/auth/token/create-orphan", status: 204, takesAny: noMatter},
	"sys.leases.tidy":              {path: "leases/tidy", status: 202},

	"token.accessors":     {path: "accessors", status: 200},
	"token.tidy":          {path: "tidy", status: 202},
	"token.revoke-orphan": {path: "revoke-orphan", body: `{"token":"$TOKEN"}`, status: 204, unknown: `revoke-orphan {"token":"s.none"}`},
	"token.roles.list":    {path: "roles", status: 200},
	"token.roles.read":    {path: "roles/known", status: 200, unknown: "roles/unknown"},
	"token.roles.write":   {path: "roles/written", body: `{"orphan":true}`, status: 204, takesAny: makesIt},
	"token.roles.delete":  {path: "roles/old", status: 204, takesAny: noMatter},
	"token.roles.create":  {path: "create/known", body: `{"ttl":"1h"}`, status: 200, unknown: `create/unknown {}`},

	"transit.derive-key": {path: "derive-key/agreed", body: `{"base_key_name":"p256","peer_public_key":"$PUBLIC"}`, status: 204,
		unknown: `derive-key/none {"base_key_name":"unknown","peer_public_key":"$PUBLIC"}`},
	"hmacpool.hmac":        {path: "hmac", body: `{"input":"aGk="}`, status: 200},
	"hmacpool.config":      {path: "config", body: `{"mode":"MODE0","directory":"$POOL"}`, status: 200, unknown: `config {"mode":"MODE0","directory":"/nowhere"}`},
	"hmacpool.config.read": {path: "config", status: 200},
	"hmacpool.status":      {path: "status", status: 200},

	"transit.keys.create":    {path: "keys/new", body: `{}`, status: 200, takesAny: makesIt},
	"transit.keys.read":      {path: "keys/aes", status: 200, unknown: "keys/unknown"},
	"transit.keys.delete":    {path: "keys/old", status: 204, unknown: "keys/unknown"},
	"transit.keys.list":      {path: "keys", status: 200},
	"transit.keys.config":    {path: "keys/aes/config", body: `{"deletion_allowed":false}`, status: 200, unknown: "keys/unknown/config {}"},
	"transit.keys.rotate":    {path: "keys/aes/rotate", status: 200, unknown: "keys/unknown/rotate"},
	"transit.export":         {path: "export/public-key/p256", status: 200, unknown: "export/public-key/unknown"},
	"transit.export.version": {path: "export/public-key/p256/1", status: 200, unknown: "export/public-key/unknown/1"},
	"transit.encrypt":        {path: "encrypt/aes", body: `{"plaintext":"aGk="}`, status: 200, takesAny: makesIt},
	"transit.decrypt":        {path: "decrypt/aes", body: `{"ciphertext":"$CIPHERTEXT"}`, status: 200, unknown: `decrypt/unknown {"ciphertext":"vault:v1:AAAA"}`},
	"transit.rewrap":         {path: "rewrap/aes", body: `{"ciphertext":"$CIPHERTEXT"}`, status: 200, unknown: `rewrap/unknown {"ciphertext":"vault:v1:AAAA"}`},
	"transit.datakey":        {path: "datakey/wrapped/aes", body: `{}`, status: 200, unknown: "datakey/wrapped/unknown {}"},
	"transit.random":         {path: "random", body: `{}`, status: 200},
	"transit.random.one":     {path: "random/16", body: `{}`, status: 200, unknown: "random/nowhere {}"},
	"transit.random.both":    {path: "random/platform/16", body: `{}`, status: 200, unknown: "random/nowhere/16 {}"},
	"transit.sign":           {path: "sign/p256", body: `{"input":"aGk="}`, status: 200, unknown: `sign/unknown {"input":"aGk="}`},
	"transit.sign.hash":      {path: "sign/p256/sha2-256", body: `{"input":"aGk="}`, status: 200, unknown: `sign/unknown/sha2-256 {"input":"aGk="}`},
	"transit.verify":         {path: "verify/p256", body: `{"input":"aGk=","signature":"$SIGNATURE"}`, status: 200, unknown: `verify/unknown {"input":"aGk=","signature":"vault:v1:AAAA"}`},
	"transit.verify.hash":    {path: "verify/p256/sha2-256", body: `{"input":"aGk=","signature":"$SIGNATURE"}`, status: 200, unknown: `verify/unknown/sha2-256 {"input":"aGk=","signature":"vault:v1:AAAA"}`},
	"transit.hmac":           {path: "hmac/aes", body: `{"input":"aGk="}`, status: 200, unknown: `hmac/unknown {"input":"aGk="}`},
	"transit.hmac.algorithm": {path: "hmac/aes/sha2-256", body: `{"input":"aGk="}`, status: 200, unknown: `hmac/unknown/sha2-256 {"input":"aGk="}`},

	"transit.backup":                   {path: "backup/saved", status: 200, unknown: "backup/unknown"},
	"transit.restore":                  {path: "restore", body: `{"backup":"$BACKUP","force":true}`, status: 204, takesAny: makesIt},
	"transit.restore.name":             {path: "restore/copied", body: `{"backup":"$BACKUP"}`, status: 204, takesAny: makesIt},
	"transit.config.cache.read":        {path: "cache-config", status: 200},
	"transit.config.cache":             {path: "cache-config", body: `{"size":0}`, status: 200},
	"transit.config.keys.read":         {path: "config/keys", status: 200},
	"transit.config.keys":              {path: "config/keys", body: `{"disable_upsert":false}`, status: 200},
	"transit.hash":                     {path: "hash", body: `{"input":"aGk="}`, status: 200},
	"transit.hash.algorithm":           {path: "hash/sha2-512", body: `{"input":"aGk="}`, status: 200, unknown: `hash/unknown {"input":"aGk="}`},
	"transit.legacy.keys.create":       {path: "legacy/keys/legacy", body: `{"type":"rsa-2048","label":"legacy","id":"01"}`, status: 200, takesAny: makesIt},
	"transit.legacy.encrypt":           {path: "legacy/encrypt/aes", body: `{"plaintext":"aGk=","scheme":"rsa-oaep-sha1"}`, status: 400, unknown: `legacy/encrypt/nothing {"plaintext":"aGk=","scheme":"rsa-oaep-sha1"}`},
	"transit.legacy.decrypt":           {path: "legacy/decrypt/aes", body: `{"ciphertext":"aGk=","scheme":"rsa-pkcs1v15"}`, status: 400, unknown: `legacy/decrypt/nothing {"ciphertext":"aGk=","scheme":"rsa-pkcs1v15"}`},
	"transit.keys.adopt":               {path: "keys/adopted/adopt", body: `{"label":"nobody's"}`, status: 400, takesAny: "what is there belongs to keys, and is refused as what is not there"},
	"transit.keys.import":              {path: "keys/imported2/import", body: `{"type":"ecdsa-p256","public_key":"$PUBLIC"}`, status: 204, takesAny: makesIt},
	"transit.keys.import-version":      {path: "keys/imported/import_version", body: `{"public_key":"$PUBLIC"}`, status: 204, unknown: `keys/unknown/import_version {"public_key":"$PUBLIC"}`},
	"transit.wrapping-key":             {path: "wrapping_key", status: 200},
	"transit.keys.csr":                 {path: "keys/p256/csr", body: `{}`, status: 200, unknown: "keys/unknown/csr {}"},
	"transit.keys.set-certificate":     {path: "keys/p256/set-certificate", body: `{"certificate_chain":"no PEM"}`, status: 400, unknown: `keys/unknown/set-certificate {"certificate_chain":"no PEM"}`},
	"transit.keys.soft-delete":         {path: "keys/soft/soft-delete", status: 200, unknown: "keys/unknown/soft-delete"},
	"transit.keys.soft-delete-restore": {path: "keys/soft/soft-delete-restore", status: 200, unknown: "keys/unknown/soft-delete-restore"},
	"transit.keys.trim":                {path: "keys/long/trim", body: `{"min_available_version":2}`, status: 200, unknown: `keys/unknown/trim {"min_available_version":2}`},
}
