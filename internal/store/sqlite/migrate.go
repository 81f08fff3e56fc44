package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/fault"
)

// Migrations are numbered from 1 without gaps: 0001_name.sql. They only go
// forward, and one that was released is never changed.
//
//go:embed migrations/*.sql
var migrationFiles embed.FS

type migration struct {
	version int
	name    string
	text    string
}

// migrations reads the embedded files in their order.
func migrations() ([]migration, error) {
	entries, err := fs.ReadDir(migrationFiles, "migrations")
	if err != nil {
		return nil, fmt.Errorf("embedded migrations: %w", err)
	}
	var all []migration
	for i, e := range entries {
		number, name, ok := strings.Cut(strings.TrimSuffix(e.Name(), ".sql"), "_")
		version, err := strconv.Atoi(number)
		if !ok || err != nil || version != i+1 {
			return nil, fmt.Errorf("embedded migration %s is not number %d", e.Name(), i+1)
		}
		text, err := migrationFiles.ReadFile("migrations/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("embedded migration: %w", err)
		}
		all = append(all, migration{version, name, string(text)})
	}
	return all, nil
}

// migrate applies the migrations that a database lacks, each in a transaction
// of its own together with its entry in the table of migrations.
func migrate(ctx context.Context, db *sql.DB, log *slog.Logger) error {
	all, err := migrations()
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS migrations (
		version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied TEXT NOT NULL) STRICT`)
	if err != nil {
		return explain(ctx, err, "opening the database")
	}
	var have int
	if err := db.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM migrations`).Scan(&have); err != nil {
		return explain(ctx, err, "reading the database's version")
	}
	if have > len(all) {
		return fault.New(fault.Invalid, "the database was written by a newer release (schema %d, this one knows %d)", have, len(all)).
			WithHint("Start that release or a later one, or restore a backup that this release made.")
	}
	for _, m := range all[have:] {
		if have > 0 {
			log.Info("migrating the database; an interruption changes nothing", "schema", m.version, "name", m.name)
		}
		if err := m.apply(ctx, db); err != nil {
			return explain(ctx, err, "migration "+m.name)
		}
		log.Info("database migrated", "schema", m.version, "name", m.name)
	}
	if have < len(all) {
		return shrinkLog(ctx, db)
	}
	return nil
}

// shrinkLog moves the write-ahead log into the file and empties it: that of a
// migration can be larger than the file was.
func shrinkLog(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`)
	return explain(ctx, err, "ending the migration")
}

func (m migration) apply(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := m.run(ctx, tx); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO migrations (version, name, applied) VALUES (?, ?, ?)`,
		m.version, m.name, time.Now().UTC().Format(time.RFC3339))
	if err != nil {
		return err
	}
	return tx.Commit()
}

// run executes the text. What stands between the lines "-- repeat" and "-- end"
// is repeated until its last statement changes nothing: SQLite keeps the pages
// that one statement changes in memory until its end, so one that moved a whole
// table would need memory of its size.
func (m migration) run(ctx context.Context, tx *sql.Tx) error {
	first, rest, _ := strings.Cut(m.text, "-- repeat\n")
	repeated, last, _ := strings.Cut(rest, "-- end\n")
	if _, err := tx.ExecContext(ctx, first); err != nil {
		return err
	}
	for more := repeated != ""; more; {
		res, err := tx.ExecContext(ctx, repeated)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		more = n > 0
	}
	_, err := tx.ExecContext(ctx, last)
	return err
}
