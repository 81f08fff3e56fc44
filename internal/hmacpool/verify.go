package hmacpool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/claviger/claviger/internal/fault"
)

// VerifyOptions say which pool is checked.
type VerifyOptions struct {
	Dir  string
	Mode Mode
	// Quick looks at names and sizes only, and needs no key.
	Quick  bool
	Unwrap Unwrap // for a sealed pool
	// Progress is called after every file; may be nil.
	Progress func(Progress)
}

// Report is the outcome of Verify.
type Report struct {
	Files   int      // that are whole
	Total   int      // that the pool must have
	Sealed  bool     // it is a sealed pool
	Faults  int      // how many were found
	Problem []string // the first of them
}

// maxProblems bounds the problems that are told one by one.
const maxProblems = 20

// Verify checks that every file of a pool is there and has its size, and, unless
// Quick, that every record holds a secret: none is all zeros, as the holes of a
// copy that was broken off are, and those of a sealed pool are authentic. The
// error is for what keeps it from looking; what it found is in the report.
func Verify(ctx context.Context, o VerifyOptions) (*Report, error) {
	h, err := ReadHeader(o.Dir)
	if err != nil {
		return nil, err
	}
	v := &verifier{VerifyOptions: o, pool: pool{Settings: Settings{Dir: o.Dir, Mode: o.Mode}},
		report: &Report{Total: o.Mode.Files(), Sealed: h != nil}}
	if h != nil && !o.Quick {
		if v.pool.seal, err = openSeal(ctx, &v.pool.Settings, h, o.Unwrap); err != nil {
			return nil, err
		}
	}
	v.size = fileSize(o.Mode, h != nil)
	if !o.Quick {
		v.room = make([]byte, v.size)
		defer clear(v.room)
	}
	return v.report, v.run(ctx)
}

type verifier struct {
	VerifyOptions
	pool   pool
	report *Report
	size   int64
	room   []byte
}

func (v *verifier) run(ctx context.Context) error {
	p := Progress{Total: v.report.Total, FileSize: v.size}
	for file := range v.report.Total {
		if err := ctx.Err(); err != nil {
			return err
		}
		before := v.report.Faults
		if err := v.file(uint16(file)); err != nil {
			v.found("%v", err)
		}
		if v.report.Faults == before {
			v.report.Files++
		}
		p.Files++
		p.Bytes += int64(len(v.room))
		if v.Progress != nil {
			v.Progress(p)
		}
	}
	return nil
}

func (v *verifier) found(format string, args ...any) {
	if v.report.Faults++; v.report.Faults <= maxProblems {
		v.report.Problem = append(v.report.Problem, fmt.Sprintf(format, args...))
	}
}

// file checks one file. Its error is the one fault of a file that can't be read.
func (v *verifier) file(file uint16) error {
	if err := v.whole(file); err != nil || v.Quick {
		return err
	}
	name := v.Mode.fileName(file)
	if err := v.pool.readAt(place{file: file}, v.room, 0); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	size := chunkSecrets(v.Mode) * SecretSize
	if v.pool.seal != nil {
		size = chunkSize(v.Mode)
	}
	for chunk := range len(v.room) / size {
		secrets := v.room[chunk*size : (chunk+1)*size]
		if v.pool.seal != nil {
			opened, err := v.pool.seal.open(secrets, file, uint16(chunk))
			if err != nil {
				v.found("%s: chunk %d: %v", name, chunk, err)
				continue
			}
			secrets = opened
		}
		v.zeros(name, chunk*chunkSecrets(v.Mode), secrets)
	}
	return nil
}

// whole checks that a file is there once, and whole.
func (v *verifier) whole(file uint16) error {
	if err := v.pool.checkSize(file, v.report.Sealed); err != nil {
		return errors.New(fault.Message(err))
	}
	short := v.Mode.shortName(file)
	if short == "" {
		return nil
	}
	long := v.Mode.fileName(file)
	_, errLong := os.Lstat(v.pool.path(long))
	if _, errShort := os.Lstat(v.pool.path(short)); errShort == nil && !errors.Is(errLong, fs.ErrNotExist) {
		return fmt.Errorf("there is %s as well as %s; %s counts", long, short, long)
	}
	return nil
}

// zeros looks for secrets that were never written.
func (v *verifier) zeros(name string, first int, secrets []byte) {
	for i := range len(secrets) / SecretSize {
		var or byte
		for _, b := range secrets[i*SecretSize : (i+1)*SecretSize] {
			or |= b
		}
		if or == 0 {
			v.found("%s: record %d is all zeros", name, first+i)
		}
	}
}
