package keys

import "github.com/claviger/claviger/internal/op"

// careOperations are what operators do with keys beside their daily use.
func (s *Service) careOperations() []*op.Operation {
	return []*op.Operation{
		op.Define(meta("keys.soft-delete", "keys/{name}/soft-delete", op.Delete, "Refuse every use of a key until it is restored."), s.softDelete),
		op.Define(meta("keys.soft-delete-restore", "keys/{name}/soft-delete-restore", op.Write, "Restore a soft-deleted key."), s.softDeleteRestore),
		op.Define(meta("keys.csr", "keys/{name}/csr", op.Write, "Make a certificate request, signed by the key."), s.signCSR),
		op.Define(meta("keys.set-certificate", "keys/{name}/set-certificate", op.Write, "Keep a certificate chain beside a version."), s.setCertificate),
		op.Define(meta("wrapping-key", "wrapping_key", op.Read, "Show the public key that keys to be imported are wrapped with."), s.readWrappingKey),
		op.WithExists(op.Define(meta("keys.import", "keys/{name}/import", op.Write, "Import a wrapped key, or a public key alone."), s.importKey), s.importExists),
		op.Define(meta("keys.import-version", "keys/{name}/import_version", op.Write, "Import a version of an imported key."), s.importVersion),
		op.Define(meta("backup", "backup/{name}", op.Read, "Back a key up as a blob that only this cluster opens."), s.backupKey),
		op.Define(meta("restore", "restore", op.Write, "Restore a key from its backup."), s.restoreKey),
		op.Define(meta("restore.name", "restore/{name}", op.Write, "Restore a key from a backup under another name."), s.restoreKey),
	}
}
