// A custodian whose program is OpenPGP.js: makes a key, decrypts with it.
//
//   make VERSION PRIVATE PUBLIC   makes a key of version 4 or 6
//   decrypt PRIVATE               prints the message that is on standard input
'use strict';

const fs = require('node:fs');
const openpgp = require('openpgp');

async function make(version, privateFile, publicFile) {
  const made = await openpgp.generateKey({
    userIDs: [{ name: 'Ada', email: 'ada@example.org' }],
    type: 'curve25519',
    format: 'object',
    config: { v6Keys: version === '6' },
  });
  fs.writeFileSync(privateFile, made.privateKey.armor(), { mode: 0o600 });
  fs.writeFileSync(publicFile, made.publicKey.armor());
}

async function decrypt(privateFile) {
  const decryptionKeys = await openpgp.readPrivateKey({ armoredKey: fs.readFileSync(privateFile, 'utf8') });
  const message = await openpgp.readMessage({ binaryMessage: new Uint8Array(fs.readFileSync(0)) });
  const { data } = await openpgp.decrypt({ message, decryptionKeys });
  process.stdout.write(data);
}

const [act, ...args] = process.argv.slice(2);
({ make, decrypt })[act](...args).catch((e) => {
  console.error(e);
  process.exitCode = 1;
});
