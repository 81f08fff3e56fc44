// Package custody guards the way to the HSM token: it makes or adopts the
// token, shares the unseal secret among custodians, collects their shares,
// logs in, and seals again.
//
// There are three kinds of custody: shares of custodians; a provider that keeps the
// unseal secret, with which the server opens by itself, and recovery shares of the
// same secret; or a configured PIN with which it opens by itself. A threshold of
// shares migrates between the first two; the third is chosen for ever at
// initialisation. What follows about shares holds for the first. With the second
// whoever has the store and may use the provider opens the HSM token, too; with the
// third, whoever reads the PIN's source.
//
// Promise: nobody but a threshold of custodians, together, learns the PINs of
// the HSM token. A share that is mistyped, altered, of another set or given
// twice is refused at once, by name of the fault, and never counts. A PIN that
// the HSM token refused is not tried again. Initialisation happens once: it
// leaves a complete record or none. When shares or PINs are replaced, the old shares
// or the new ones open at every moment: the old ones until the new ones are proved.
//
// Trust: the random numbers of this machine, the memory of this process while
// shares are being collected, and the HSM token. Not the store: what custody
// keeps there is public or sealed, and bound together, so that a change made in
// the database is noticed and opens nothing. Who writes the database can still
// make the server unable to unseal, and can delete the note that a PIN was refused.
//
// Secrets (PINs, shares, the unseal key, the storage key) are wiped after use.
// Copies that the runtime or a library made on the way, and the texts of
// requests and answers, are out of reach and go with the garbage collector.
package custody
