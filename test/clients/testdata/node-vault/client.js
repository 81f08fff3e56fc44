// Uses a server as Node.js programs do: through node-vault, unmodified.
//
// VAULT_ADDR says where it is. A new server is initialised and unsealed here,
// any other one is used with VAULT_TOKEN.
'use strict';

const assert = require('node:assert/strict');
const nodeVault = require('node-vault');

const b64 = (text) => Buffer.from(text).toString('base64');
const endpoint = process.env.VAULT_ADDR;

async function refused(status, promise) {
  await assert.rejects(promise, (e) => {
    assert.equal(e.response && e.response.statusCode, status, e.stack);
    return true;
  });
}

async function unseals(vault) {
  assert.equal((await vault.health()).initialized, false);
  const made = await vault.init({ secret_shares: 3, secret_threshold: 2 });
  vault.token = made.root_token;
  assert.equal((await vault.status()).sealed, true);
  await refused(503, vault.read('transit/keys/k'));
  assert.equal((await vault.unseal({ key: made.keys[0] })).progress, 1);
  assert.equal((await vault.unseal({ key: made.keys[1] })).sealed, false);
  await vault.seal();
  assert.equal((await vault.health()).sealed, true);
  for (const key of made.keys_base64.slice(1)) await vault.unseal({ key });
}

async function states(vault) {
  assert.equal((await vault.initialized()).initialized, true);
  assert.equal((await vault.health()).sealed, false);
  assert.equal((await vault.status()).sealed, false);
  assert.equal(typeof (await vault.leader()).ha_enabled, 'boolean');
  assert.ok((await vault.mounts())['transit/']);
  assert.ok((await vault.auths())['token/']);
  assert.ok((await vault.help('transit/keys/k')).help);
  await refused(404, vault.read('transit/keys/absent'));
  await refused(404, vault.transitListKeys());
  await vault.mount({ mount_point: 'team', type: 'transit', description: 'of a team' });
  await vault.write('team/keys/k', {});
  await vault.unmount({ mount_point: 'team' });
  await refused(404, vault.read('team/keys/k'));
}

async function encrypts(vault) {
  await vault.transitCreateKey({ name: 'aes' });
  const sealed = (await vault.encryptData({ name: 'aes', plaintext: b64('hello'), associated_data: b64('aad') })).data.ciphertext;
  await vault.write('transit/keys/aes/rotate', {});
  const again = (await vault.rewrapData({ name: 'aes', ciphertext: sealed, associated_data: b64('aad') })).data.ciphertext;
  assert.match(again, /^vault:v2:/);
  const opened = await vault.decryptData({ name: 'aes', ciphertext: again, associated_data: b64('aad') });
  assert.equal(opened.data.plaintext, b64('hello'));
  await refused(400, vault.decryptData({ name: 'aes', ciphertext: again, associated_data: b64('other') }));
  const batch = await vault.encryptData({ name: 'aes', batch_input: [{ plaintext: b64('a') }, { plaintext: '' }] });
  const results = (await vault.decryptData({ name: 'aes', batch_input: batch.data.batch_results })).data.batch_results;
  assert.deepEqual(results.map((r) => r.plaintext), [b64('a'), '']);
  const key = (await vault.write('transit/datakey/plaintext/aes', { bits: 256 })).data;
  assert.equal((await vault.decryptData({ name: 'aes', ciphertext: key.ciphertext })).data.plaintext, key.plaintext);
  assert.deepEqual((await vault.transitListKeys()).data.keys, ['aes']);
  await refused(400, vault.transitDeleteKey({ name: 'aes' }));
  await vault.write('transit/keys/aes/config', { deletion_allowed: 'true' });
  await vault.transitDeleteKey({ name: 'aes' });
}

async function signs(vault) {
  for (const type of ['ecdsa-p256', 'rsa-2048', 'ed25519']) {
    await vault.transitCreateKey({ name: type, type });
    const { signature } = (await vault.write(`transit/sign/${type}`, { input: b64('m') })).data;
    assert.equal((await vault.write(`transit/verify/${type}`, { input: b64('m'), signature })).data.valid, true);
    assert.equal((await vault.write(`transit/verify/${type}/sha2-256`, { input: b64('n'), signature })).data.valid, false);
    assert.ok((await vault.read(`transit/export/public-key/${type}`)).data.keys['1']);
  }
  const { hmac } = (await vault.write('transit/hmac/ed25519', { input: b64('m') })).data;
  assert.equal((await vault.write('transit/verify/ed25519', { input: b64('m'), hmac })).data.valid, true);
}

async function tokens(vault) {
  await vault.addPolicy({ name: 'app', policy: 'path "transit/sign/ed25519" { capabilities = ["update"] }' });
  assert.ok((await vault.policies()).policies.includes('app'));
  assert.match((await vault.getPolicy({ name: 'app' })).rules, /transit/);
  // node-vault goes on with the token that tokenCreate returned.
  const app = nodeVault({ endpoint, token: vault.token });
  const { auth } = await app.tokenCreate({ policies: ['app'], ttl: '1h', display_name: 'app' });
  assert.equal(app.token, auth.client_token);
  assert.deepEqual((await app.tokenLookupSelf()).data.policies, ['app', 'default']);
  assert.equal((await app.tokenRenewSelf({ increment: '30m' })).auth.lease_duration, 1800);
  await app.write('transit/sign/ed25519', { input: b64('m') });
  await refused(403, app.read('transit/keys/ed25519'));
  assert.equal((await vault.tokenLookupAccessor({ accessor: auth.accessor })).data.display_name, 'token-app');
  assert.ok((await vault.tokenAccessors()).data.keys.includes(auth.accessor));
  await vault.addTokenRole({ role_name: 'ci', allowed_policies: 'app' });
  assert.deepEqual((await vault.tokenRoles()).data.keys, ['ci']);
  await app.tokenRevokeSelf();
  await refused(403, app.tokenLookupSelf());
}

async function renews(vault) {
  // tokenCreate would not send the period.
  const { auth } = await vault.write('auth/token/create', { policies: ['app'], period: '5s' });
  const app = nodeVault({ endpoint, token: auth.client_token });
  let timer;
  const renewed = new Promise((resolve, reject) => {
    app.on('token:renewed', resolve);
    app.on('token:error:renew', reject);
    // The timers of node-vault do not keep a program running.
    timer = setTimeout(() => reject(new Error('not renewed')), 10_000);
  });
  await app.startTokenRenewal({ renewFraction: 0.3 });
  assert.equal((await renewed).auth.lease_duration, 5);
  clearTimeout(timer);
  app.stopTokenRenewal();
}

async function wraps(vault) {
  const { wrap_info: wrapped } = await vault.write('auth/token/create', { policies: ['app'] }, { headers: { 'X-Vault-Wrap-TTL': '60s' } });
  assert.equal(wrapped.ttl, 60);
  const user = nodeVault({ endpoint, token: wrapped.token });
  const { auth } = await user.unwrap();
  assert.equal(auth.accessor, wrapped.wrapped_accessor);
  await assert.rejects(user.unwrap());
}

async function main() {
  const vault = nodeVault({ endpoint, token: process.env.VAULT_TOKEN });
  if (!(await vault.initialized()).initialized) await unseals(vault);
  for (const part of [states, encrypts, signs, tokens, renews, wraps]) await part(vault);
  console.log('ok');
}

main().catch((e) => {
  console.error(e);
  process.exit(1);
});
