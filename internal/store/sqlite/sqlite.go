package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
	driver "modernc.org/sqlite"
)

// Config says where the database is.
type Config struct {
	// Path of the database file; "" keeps everything in memory. Beside it lie
	// Path-wal and Path-shm, which belong to it, and Path.lock. A missing
	// directory is made with mode 0700, files have mode 0600.
	Path string
	// Logger hears of migrations and loose permissions; nil is slog.Default().
	Logger *slog.Logger
}

// Store is a store.Store in SQLite. Open makes it.
type Store struct {
	readers *sql.DB // several connections that cannot write; in memory the writer itself
	writer  *sql.DB // one connection, used by the goroutine of write.go
	lock    *os.File
	log     *slog.Logger

	get                                *sql.Stmt
	insert, update, remove, have, beat *sql.Stmt

	queue      chan *request
	company    bool // the last commit had several requests; of the writing goroutine
	closing    chan struct{}
	stopped    chan struct{}
	closeOnce  sync.Once
	lastCommit atomic.Int64 // Unix nanoseconds, for Check
}

var _ store.Store = (*Store)(nil)

// errClosed answers calls after Close.
var errClosed = fault.New(fault.Unavailable, "the database is closed")

// Open opens the database, makes it if there is none, and brings its schema to
// this release's version. It returns store.ErrBusy (with the other's process id)
// if another server has it, and refuses files of other programs and of newer
// releases.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{
		log:     cfg.Logger,
		queue:   make(chan *request),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if err := s.open(ctx, cfg.Path); err != nil {
		s.release()
		return nil, err
	}
	go s.write()
	return s, nil
}

func (s *Store) open(ctx context.Context, path string) error {
	if path != "" {
		var err error
		if s.lock, err = prepareFile(path, s.log); err != nil {
			return err
		}
		if err := claim(ctx, path); err != nil {
			return err
		}
	}
	if err := s.connect(path); err != nil {
		return err
	}
	if err := migrate(ctx, s.writer, s.log); err != nil {
		return err
	}
	return s.prepare(ctx)
}

// connect opens the pools; no connection is made before it is used.
func (s *Store) connect(path string) error {
	var err error
	if s.writer, err = pool(dsn(path, false), 1); err != nil {
		return err
	}
	if path == "" {
		s.readers = s.writer
		return nil
	}
	s.readers, err = pool(dsn(path, true), max(4, runtime.GOMAXPROCS(0)))
	return err
}

func pool(dsn string, size int) (*sql.DB, error) {
	connector, err := driver.NewConnector(dsn)
	if err != nil {
		return nil, fmt.Errorf("database address: %w", err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return db, nil
}

// dsn is the driver's address of a database. Hardening first: the schema of a
// file that somebody altered must not run code or reach outside.
func dsn(path string, readOnly bool) string {
	q := url.Values{
		"_defensive":    {"1"},
		"_dqs":          {"0"},
		"_error_rc":     {"1"},
		"_txlock":       {"immediate"},
		"_busy_timeout": {"5000"},
		"_foreign_keys": {"1"},
		"_synchronous":  {"FULL"},
		"_pragma":       {"trusted_schema(0)", "cell_size_check(1)", "secure_delete(1)", "temp_store(2)"},
	}
	if path == "" {
		return "file::memory:?" + q.Encode()
	}
	q.Set("_journal_mode", "WAL")
	if readOnly {
		q.Set("_query_only", "1")
		return fileURI(path) + "?" + q.Encode()
	}
	// Checkpoints every 16 MiB instead of 4 write pages that change often fewer
	// times; 16 MiB of cache instead of 2 keep the upper levels of a large table.
	q.Add("_pragma", "wal_autocheckpoint(4000)")
	q.Add("_pragma", "cache_size(-16384)")
	return fileURI(path) + "?" + q.Encode()
}

// fileURI keeps '?', '#' and '%' in file names from being read as parts of the address.
func fileURI(path string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath()
}

func (s *Store) prepare(ctx context.Context) error {
	for _, p := range []struct {
		db   *sql.DB
		stmt **sql.Stmt
		text string
	}{
		{s.readers, &s.get, `SELECT version, data FROM records WHERE tbl = ? AND key = ?`},
		{s.writer, &s.insert, `INSERT INTO records (tbl, key, version, data) VALUES (?, ?, 1, ?) ON CONFLICT DO NOTHING`},
		{s.writer, &s.update, `UPDATE records SET version = version + 1, data = ? WHERE tbl = ? AND key = ? AND version = ?`},
		{s.writer, &s.remove, `DELETE FROM records WHERE tbl = ? AND key = ? AND version = ?`},
		// An update that changes nothing counts the record, and costs half of a query.
		{s.writer, &s.have, `UPDATE records SET version = version WHERE tbl = ? AND key = ?`},
		{s.writer, &s.beat, `UPDATE probe SET at = ? WHERE id = 1`},
	} {
		stmt, err := p.db.PrepareContext(ctx, p.text)
		if err != nil {
			return explain(ctx, err, "preparing the database")
		}
		*p.stmt = stmt
	}
	return nil
}

// Get returns a record, or store.ErrNotFound.
func (s *Store) Get(ctx context.Context, table, key string) (store.Record, error) {
	r := store.Record{Table: table, Key: key}
	err := s.get.QueryRowContext(ctx, table, []byte(key)).Scan(&r.Version, &r.Data)
	if errors.Is(err, sql.ErrNoRows) {
		return store.Record{}, store.ErrNotFound
	}
	if err != nil {
		return store.Record{}, explain(ctx, err, "reading a record")
	}
	if r.Data == nil {
		r.Data = []byte{}
	}
	return r, nil
}

// Close finishes the changes that are under way, moves the write-ahead log into
// the file, and lets others use it. Later calls fail.
func (s *Store) Close() error {
	var err error
	s.closeOnce.Do(func() {
		close(s.closing)
		<-s.stopped
		err = s.release()
	})
	return err
}

// release closes what is open; the lock last, so that nobody comes in before.
func (s *Store) release() error {
	var errs []error
	if s.readers != nil && s.readers != s.writer {
		errs = append(errs, s.readers.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.Close())
	}
	if s.lock != nil {
		errs = append(errs, unlock(s.lock))
	}
	return errors.Join(errs...)
}
