package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/store"
)

// Bounds of a record's parts, in bytes.
const (
	maxTable = 255
	maxKey   = 64 << 10
	maxData  = 64 << 20
	maxProof = 1 << 20
)

// appendRecord encodes a record as records.bin has it.
func appendRecord(b []byte, r *store.Record) ([]byte, error) {
	if len(r.Table) > maxTable || len(r.Key) > maxKey || len(r.Data) > maxData || r.Version < 1 {
		return b, fault.New(fault.Internal, "the record %.80s/%.80q is larger than a snapshot can hold", r.Table, r.Key)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Table)))
	b = append(b, r.Table...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Key)))
	b = append(b, r.Key...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Version))
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Data)))
	return append(b, r.Data...), nil
}

// recordReader reads records.bin.
type recordReader struct {
	r     io.Reader
	count int64
	last  store.Record // without its data
	seen  map[string]int64
}

// next returns a record, or io.EOF after the last one.
func (rr *recordReader) next() (r store.Record, err error) {
	table, err := rr.part(2, maxTable)
	if err != nil {
		return r, err
	}
	key, err := rr.whole(4, maxKey)
	if err != nil {
		return r, err
	}
	var version [8]byte
	if _, err := io.ReadFull(rr.r, version[:]); err != nil {
		return r, short(err)
	}
	data, err := rr.whole(4, maxData)
	if err != nil {
		return r, err
	}
	n := binary.BigEndian.Uint64(version[:])
	r = store.Record{Table: string(table), Key: string(key), Version: int64(n), Data: data}
	if n == 0 || n > 1<<62 {
		return r, damaged("a record has the version %d", n)
	}
	if rr.count > 0 && (r.Table < rr.last.Table || r.Table == rr.last.Table && r.Key <= rr.last.Key) {
		return r, damaged("its records are not in their order")
	}
	rr.count++
	rr.seen[r.Table]++
	rr.last = store.Record{Table: r.Table, Key: r.Key}
	return r, nil
}

// part reads bytes with their length before them, of so many bytes; io.EOF if
// there is nothing at all.
func (rr *recordReader) part(size, most int) ([]byte, error) {
	return readPart(rr.r, size, most)
}

// whole is part where something must be.
func (rr *recordReader) whole(size, most int) ([]byte, error) {
	b, err := rr.part(size, most)
	return b, short(err)
}

// readPart does not believe a length before the bytes are there.
func readPart(r io.Reader, size, most int) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[8-size:]); err != nil {
		return nil, ended(err)
	}
	n := binary.BigEndian.Uint64(head[:])
	if n > uint64(most) {
		return nil, damaged("a part of it claims to have %d bytes; the most is %d", n, most)
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, r, int64(n)); err != nil {
		return nil, short(err)
	}
	return b.Bytes(), nil
}

// short says of an end that it came too early.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("it ends early")
	}
	return err
}

// ended leaves an end where it may be.
func ended(err error) error {
	if err == io.EOF {
		return err
	}
	return short(err)
}
