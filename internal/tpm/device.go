package tpm

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/sys/unix"

	"github.com/claviger/claviger/internal/fault"
)

// DefaultDevice is the TPM behind the kernel's resource manager, which lets
// several programs use it at once.
const DefaultDevice = "/dev/tpmrm0"

const (
	// commandTimeout bounds one command of a TPM behind a socket. The kernel
	// bounds those of a device file.
	commandTimeout = 2 * time.Minute
	dialTimeout    = 5 * time.Second
	// headerSize is that of a command and of a response: tag, size, code (TPM
	// 2.0 part 1, 18.2).
	headerSize = 10
	// maxResponse is beyond what TPMs of the PC Client profile answer.
	maxResponse = 4096
	// A command that the TPM can't start yet is tried for some 2 seconds.
	maxTries   = 20
	firstPause = 10 * time.Millisecond
)

// ErrAbsent is the cause of an error of Open: there is no TPM.
var ErrAbsent = errors.New("no TPM")

// Device is an open TPM. It is for one goroutine at a time.
type Device struct {
	name   string
	rw     io.ReadWriteCloser
	stream bool // a socket: a response may come in pieces
}

// Open opens a TPM: "" is DefaultDevice, "/dev/…" a device file, and
// "swtpm:host:port" or "swtpm:/path" the command socket of a software TPM. An
// error is a *fault.Error of kind Unavailable, with the cause ErrAbsent if there
// is nothing of that name, or Invalid if the name can't be meant.
func Open(name string) (*Device, error) {
	if name == "" {
		name = DefaultDevice
	}
	if addr, ok := strings.CutPrefix(name, "swtpm:"); ok {
		return openSocket(name, addr)
	}
	if !filepath.IsAbs(name) {
		return nil, fault.New(fault.Invalid, "%q is no TPM; write a device file such as %s, or swtpm:host:port", name, DefaultDevice)
	}
	return openFile(name)
}

// openFile opens the device in blocking mode: there a command is one write and
// its response one read, whatever the age of the kernel.
func openFile(name string) (*Device, error) {
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return nil, absent(name, err)
	case errors.Is(err, unix.EBUSY):
		return nil, (&fault.Error{Kind: fault.Unavailable, Msg: "another program uses the TPM " + name, Err: err}).
			WithHint("use %s, which several programs can share", DefaultDevice)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return nil, (&fault.Error{Kind: fault.Unavailable, Msg: "this user may not open the TPM " + name, Err: err}).
			WithHint("add the user to the group that owns %s, mostly tss", name)
	case err != nil:
		return nil, fault.Wrap(fault.Unavailable, err, "open the TPM %s", name)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
		unix.Close(fd)
		return nil, fault.New(fault.Invalid, "%s is no TPM: it is not a character device", name)
	}
	return &Device{name: name, rw: os.NewFile(uintptr(fd), name)}, nil
}

func openSocket(name, addr string) (*Device, error) {
	network := "tcp"
	if filepath.IsAbs(addr) {
		network = "unix"
	} else if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fault.New(fault.Invalid, "%q is no TPM; write swtpm:host:port or swtpm:/path", name)
	}
	conn, err := net.DialTimeout(network, addr, dialTimeout)
	if err != nil {
		return nil, absent(name, err)
	}
	return &Device{name: name, rw: conn, stream: true}, nil
}

func absent(name string, cause error) error {
	return (&fault.Error{
		Kind: fault.Unavailable, Msg: "there is no TPM at " + name, Err: errors.Join(ErrAbsent, cause),
	}).WithHint("switch the TPM on in the firmware's settings, or name another device")
}

// Name returns what the device was opened as.
func (d *Device) Name() string { return d.name }

// Close closes the device.
func (d *Device) Close() error { return d.rw.Close() }

// Send gives the TPM one command and returns its response. It is what package
// tpm2 calls; both are as TPM 2.0 part 1, clause 18 has them. A command that the
// TPM could not start yet is sent again, as it is.
func (d *Device) Send(command []byte) ([]byte, error) {
	for try := 1; ; try++ {
		response, err := d.exchange(command)
		if err != nil || !notStarted(response) || try == maxTries {
			return response, err
		}
		time.Sleep(time.Duration(try) * firstPause)
	}
}

// notStarted tells whether the TPM asks for the same command again (TPM 2.0 part
// 2, 6.6.3): it was busy with its own state, as after the first use of a password.
func notStarted(response []byte) bool {
	if len(response) != headerSize {
		return false
	}
	switch tpm2.TPMRC(binary.BigEndian.Uint32(response[6:])) {
	case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting:
		return true
	}
	return false
}

func (d *Device) exchange(command []byte) ([]byte, error) {
	if conn, ok := d.rw.(net.Conn); ok {
		if err := conn.SetDeadline(time.Now().Add(commandTimeout)); err != nil {
			return nil, err
		}
	}
	if _, err := d.rw.Write(command); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "send the TPM %s a command", d.name)
	}
	response := make([]byte, maxResponse)
	n, err := d.receive(response)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "read the answer of the TPM %s", d.name)
	}
	return response[:n], nil
}

// receive fills buf with one response and returns its size.
func (d *Device) receive(buf []byte) (int, error) {
	if !d.stream {
		return d.rw.Read(buf)
	}
	if _, err := io.ReadFull(d.rw, buf[:headerSize]); err != nil {
		return 0, err
	}
	size := binary.BigEndian.Uint32(buf[2:6])
	if size < headerSize || size > uint32(len(buf)) {
		return 0, errors.New("the answer has an impossible size")
	}
	if _, err := io.ReadFull(d.rw, buf[headerSize:size]); err != nil {
		return 0, err
	}
	return int(size), nil
}
