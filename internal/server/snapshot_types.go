package server

import (
	"github.com/claviger/claviger/internal/keys"
	"github.com/claviger/claviger/internal/snapshot"
)

// What the command line shows of snapshots, which sees no service.
type (
	// SnapshotReport is what the reading of a snapshot found.
	SnapshotReport = snapshot.Report
	// CheckedKey is what a rehearsal found out of one version of a key.
	CheckedKey = keys.Checked
)
