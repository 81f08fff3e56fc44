package sqlite

import (
	"context"
	"database/sql"
	"strings"

	"github.com/claviger/claviger/internal/store"
)

// List returns the records of a table whose keys start with prefix and come
// after the key after, at most limit of them (0: all), in the order of their
// keys' bytes.
func (s *Store) List(ctx context.Context, table, prefix, after string, limit int) ([]store.Record, error) {
	query, args := listQuery("key, version, data", table, prefix, after, limit)
	rows, err := s.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, explain(ctx, err, "listing records")
	}
	defer rows.Close()
	var records []store.Record
	for rows.Next() {
		r := store.Record{Table: table}
		var key []byte
		if err := rows.Scan(&key, &r.Version, &r.Data); err != nil {
			return nil, explain(ctx, err, "listing records")
		}
		r.Key = string(key)
		if r.Data == nil {
			r.Data = []byte{}
		}
		records = append(records, r)
	}
	return records, explain(ctx, rows.Err(), "listing records")
}

// Names returns the keys of the records that List returns.
func (s *Store) Names(ctx context.Context, table, prefix, after string, limit int) ([]string, error) {
	query, args := listQuery("key", table, prefix, after, limit)
	rows, err := s.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, explain(ctx, err, "listing keys of records")
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var key sql.RawBytes
		if err := rows.Scan(&key); err != nil {
			return nil, explain(ctx, err, "listing keys of records")
		}
		names = append(names, string(key))
	}
	return names, explain(ctx, rows.Err(), "listing keys of records")
}

// listQuery asks for columns of a range of the primary key: no pattern, so no
// character of a prefix means anything. The range has one lower bound, since
// SQLite would look up only the first of two and read on from there.
func listQuery(columns, table, prefix, after string, limit int) (string, []any) {
	var b strings.Builder
	b.WriteString(`SELECT ` + columns + ` FROM records WHERE tbl = ?`)
	args := []any{table}
	bound := func(condition string, key []byte) {
		b.WriteString(condition)
		args = append(args, key)
	}
	if after >= prefix && after != "" {
		bound(` AND key > ?`, []byte(after))
	} else if prefix != "" {
		bound(` AND key >= ?`, []byte(prefix))
	}
	if end, ok := prefixEnd(prefix); ok {
		bound(` AND key < ?`, end)
	}
	b.WriteString(` ORDER BY key`)
	if limit > 0 {
		b.WriteString(` LIMIT ?`)
		args = append(args, limit)
	}
	return b.String(), args
}

// prefixEnd is the first key after all that start with prefix; there is none
// if all its bytes are 0xff.
func prefixEnd(prefix string) ([]byte, bool) {
	end := []byte(prefix)
	for len(end) > 0 && end[len(end)-1] == 0xff {
		end = end[:len(end)-1]
	}
	if len(end) == 0 {
		return nil, false
	}
	end[len(end)-1]++
	return end, true
}
