package worker

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
)

// hardening is the report of what confines a worker.
type hardening struct{ done, missing []string }

func (h *hardening) note(what string, err error) {
	if err != nil {
		h.missing = append(h.missing, what+" ("+err.Error()+")")
		return
	}
	h.done = append(h.done, what)
}

// String is the form in which stage 1 hands the report to stage 2.
func (h *hardening) String() string {
	return strings.Join(h.done, "\x1f") + "\x1e" + strings.Join(h.missing, "\x1f")
}

func parseHardening(s string) *hardening {
	done, missing, _ := strings.Cut(s, "\x1e")
	split := func(s string) []string {
		if s == "" {
			return nil
		}
		return strings.Split(s, "\x1f")
	}
	return &hardening{split(done), split(missing)}
}

// modulePaths returns what well-known modules read and write, by the same
// environment variables that they obey. It names paths that may not exist.
func modulePaths(getenv func(string) string) (read, write []string) {
	for _, c := range softHSMConfs(getenv) {
		read = append(read, c)
		if b, err := os.ReadFile(c); err == nil {
			if dir := softHSMTokenDir(string(b)); dir != "" {
				write = append(write, dir)
			}
		}
	}
	if store := getenv("TPM2_PKCS11_STORE"); store != "" {
		write = append(write, store)
	} else {
		write = append(write, "/etc/tpm2_pkcs11")
		if home := getenv("HOME"); home != "" {
			write = append(write, filepath.Join(home, ".tpm2_pkcs11"))
		}
	}
	write = append(write, "/dev/tpm0", "/dev/tpmrm0")
	return read, write
}

// softHSMConfs returns the files in which SoftHSM2 looks for its configuration; the
// first that exists counts.
func softHSMConfs(getenv func(string) string) []string {
	if conf := getenv("SOFTHSM2_CONF"); conf != "" {
		return []string{conf}
	}
	var confs []string
	if home := getenv("HOME"); home != "" {
		confs = append(confs, filepath.Join(home, ".config/softhsm2/softhsm2.conf"))
	}
	return append(confs, "/etc/softhsm/softhsm2.conf", "/etc/softhsm2.conf")
}

// SoftHSMTokenDir returns the directory in which SoftHSM2 keeps its tokens, by the
// configuration that it reads in this environment, or "".
func SoftHSMTokenDir(getenv func(string) string) string {
	for _, c := range softHSMConfs(getenv) {
		if b, err := os.ReadFile(c); err == nil {
			return softHSMTokenDir(string(b))
		}
	}
	return ""
}

// softHSMTokenDir returns directories.tokendir of a softhsm2.conf, or "".
func softHSMTokenDir(conf string) string {
	dir := ""
	sc := bufio.NewScanner(strings.NewReader(conf))
	for sc.Scan() {
		line, _, _ := strings.Cut(sc.Text(), "#")
		name, value, ok := strings.Cut(line, "=")
		if ok && strings.TrimSpace(name) == "directories.tokendir" {
			dir = strings.TrimSpace(value)
		}
	}
	return dir
}
