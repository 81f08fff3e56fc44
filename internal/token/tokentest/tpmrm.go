package tokentest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
)

// A TPM has room for three loaded objects and three loaded sessions. Linux has a
// resource manager (/dev/tpmrm0) that saves and loads their contexts around each
// command, so that callers need not know; swtpm has none, so here is one. It is
// for clients that connect anew for each command (tcti-swtpm), and so it can't
// tell when a client has ended: what clients leave behind stays saved.
//
// Codes and structures are of the TPM 2.0 Library, parts 2 and 3.
const (
	ccContextLoad      = 0x161
	ccContextSave      = 0x162
	ccFlushContext     = 0x165
	ccStartAuthSession = 0x176
	ccGetCapability    = 0x17a

	stNoSessions = 0x8001
	stSessions   = 0x8002

	rcSessionMemory = 0x903

	htTransient = 0x80
	htHMAC      = 0x02
	htPolicy    = 0x03
)

// tpmManager serves clients one after another.
type tpmManager struct {
	tpm      io.ReadWriter
	commands map[uint32]tpmCommand
	objects  map[uint32][]byte // saved context by the handle that clients know
	next     uint32            // the next such handle
	sessions []uint32          // handles of loaded sessions, least recently used first
	saved    map[uint32][]byte // saved context by session handle
}

// tpmCommand is what the manager must know of a command's form.
type tpmCommand struct {
	handles int  // in the command
	returns bool // a handle
}

// newTPMManager asks the TPM for the forms of its commands (TPM2_GetCapability,
// TPM_CAP_COMMANDS; TPMA_CC bits 25 to 28).
func newTPMManager(tpm io.ReadWriter) (*tpmManager, error) {
	m := &tpmManager{
		tpm: tpm, commands: make(map[uint32]tpmCommand), objects: make(map[uint32][]byte),
		next: htTransient<<24 | 0xf00000, saved: make(map[uint32][]byte),
	}
	rsp, err := m.exchange(tpmRequest(ccGetCapability, words(2, 0x11f, 256)))
	if err != nil {
		return nil, err
	}
	if code(rsp) != 0 || len(rsp) < 19 {
		return nil, fmt.Errorf("TPM2_GetCapability: response code %#x", code(rsp))
	}
	for b := rsp[19:]; len(b) >= 4; b = b[4:] {
		attributes := binary.BigEndian.Uint32(b)
		m.commands[attributes&0xffff] = tpmCommand{int(attributes >> 25 & 7), attributes>>28&1 == 1}
	}
	return m, nil
}

// serve answers the commands of one connection.
func (m *tpmManager) serve(client net.Conn) {
	for {
		cmd, err := readFrame(client)
		if err != nil {
			return
		}
		rsp, err := m.execute(cmd)
		if err != nil {
			return // the client sees the end of the connection
		}
		if _, err := client.Write(rsp); err != nil {
			return
		}
	}
}

// readFrame reads a command or response: tag, size of the whole, code, rest.
func readFrame(r io.Reader) ([]byte, error) {
	head := make([]byte, 10)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[2:])
	if size < 10 || size > 1<<16 {
		return nil, fmt.Errorf("a TPM frame of %d bytes", size)
	}
	frame := append(head, make([]byte, size-10)...)
	_, err := io.ReadFull(r, frame[10:])
	return frame, err
}

func (m *tpmManager) exchange(cmd []byte) ([]byte, error) {
	if _, err := m.tpm.Write(cmd); err != nil {
		return nil, err
	}
	return readFrame(m.tpm)
}

// execute loads what the command names, runs it, and saves what it left loaded.
func (m *tpmManager) execute(cmd []byte) ([]byte, error) {
	cc := code(cmd)
	if cc == ccFlushContext && len(cmd) == 14 {
		if handle := word(cmd[10:]); m.objects[handle] != nil {
			delete(m.objects, handle)
			return tpmSuccess(), nil
		}
	}
	form := m.commands[cc]
	if len(cmd) < 10+4*form.handles {
		return m.exchange(cmd) // malformed: the TPM's answer is the right one
	}
	loaded := make(map[uint32]uint32) // handle in the TPM by handle of the client
	for i := range form.handles {
		at := cmd[10+4*i:]
		handle := word(at)
		if err := m.load(handle, loaded); err != nil {
			return nil, err
		}
		if real, ok := loaded[handle]; ok {
			binary.BigEndian.PutUint32(at, real)
		}
	}
	if err := m.loadAuthSessions(cmd[10+4*form.handles:], cmd); err != nil {
		return nil, err
	}
	rsp, err := m.run(cmd)
	if err != nil {
		return nil, err
	}
	for handle, real := range loaded {
		if err := m.save(handle, real); err != nil {
			return nil, err
		}
	}
	return rsp, m.adopt(form, rsp)
}

// run executes a command for which the TPM may need to unload a session.
func (m *tpmManager) run(cmd []byte) ([]byte, error) {
	for {
		rsp, err := m.exchange(cmd)
		if err != nil || code(rsp) != rcSessionMemory || len(m.sessions) == 0 {
			return rsp, err
		}
		if err := m.unloadSession(); err != nil {
			return nil, err
		}
	}
}

// load makes sure that the TPM knows the object or session of a handle.
func (m *tpmManager) load(handle uint32, loaded map[uint32]uint32) error {
	if isSession(handle) {
		return m.loadSession(handle)
	}
	context := m.objects[handle]
	if _, already := loaded[handle]; already || context == nil {
		return nil
	}
	rsp, err := m.run(tpmRequest(ccContextLoad, context))
	if err != nil {
		return err
	}
	if code(rsp) != 0 {
		return fmt.Errorf("TPM2_ContextLoad: response code %#x", code(rsp))
	}
	loaded[handle] = word(rsp[10:])
	return nil
}

// adopt replaces the handle of a new object in a response by one of ours.
func (m *tpmManager) adopt(form tpmCommand, rsp []byte) error {
	if !form.returns || code(rsp) != 0 || len(rsp) < 14 {
		return nil
	}
	real := word(rsp[10:])
	if isSession(real) {
		m.sessions = append(m.sessions, real)
		return nil
	}
	if real>>24 != htTransient {
		return nil
	}
	handle := m.next
	m.next++
	binary.BigEndian.PutUint32(rsp[10:], handle)
	return m.save(handle, real)
}

// save keeps the context of an object and removes it from the TPM. One that the
// command has ended itself (TPM2_SequenceComplete) is forgotten.
func (m *tpmManager) save(handle, real uint32) error {
	rsp, err := m.exchange(tpmRequest(ccContextSave, words(real)))
	if err != nil {
		return err
	}
	if code(rsp) != 0 {
		delete(m.objects, handle)
		return nil
	}
	m.objects[handle] = rsp[10:]
	_, err = m.exchange(tpmRequest(ccFlushContext, words(real)))
	return err
}

// loadAuthSessions loads the sessions that authorise a command. area is what
// follows the handles: its size, then handle, nonce, attributes and HMAC of each.
func (m *tpmManager) loadAuthSessions(area, cmd []byte) error {
	if binary.BigEndian.Uint16(cmd) != stSessions || len(area) < 4 {
		return nil
	}
	size := word(area)
	area = area[4:]
	for area = area[:min(int(size), len(area))]; len(area) >= 9; {
		if err := m.loadSession(word(area)); err != nil {
			return err
		}
		nonce := 6 + int(binary.BigEndian.Uint16(area[4:]))
		if len(area) < nonce+3 {
			return nil
		}
		area = area[min(len(area), nonce+3+int(binary.BigEndian.Uint16(area[nonce+1:]))):]
	}
	return nil
}

func (m *tpmManager) loadSession(handle uint32) error {
	if i := slices.Index(m.sessions, handle); i >= 0 {
		m.sessions = append(slices.Delete(m.sessions, i, i+1), handle)
		return nil
	}
	context := m.saved[handle]
	if !isSession(handle) || context == nil {
		return nil
	}
	rsp, err := m.run(tpmRequest(ccContextLoad, context))
	if err != nil {
		return err
	}
	if code(rsp) != 0 {
		return fmt.Errorf("TPM2_ContextLoad of a session: response code %#x", code(rsp))
	}
	delete(m.saved, handle)
	m.sessions = append(m.sessions, handle)
	return nil
}

// unloadSession saves the session that was not used for the longest time. One
// that has ended meanwhile can't be saved and needs no room.
func (m *tpmManager) unloadSession() error {
	if len(m.sessions) == 0 {
		return errors.New("the TPM has no room for a session")
	}
	handle := m.sessions[0]
	m.sessions = slices.Delete(m.sessions, 0, 1)
	rsp, err := m.exchange(tpmRequest(ccContextSave, words(handle)))
	if err == nil && code(rsp) == 0 {
		m.saved[handle] = rsp[10:]
	}
	return err
}

func isSession(handle uint32) bool { return handle>>24 == htHMAC || handle>>24 == htPolicy }

// code returns the command or response code of a frame.
func code(frame []byte) uint32 { return word(frame[6:]) }

func word(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

func words(values ...uint32) (b []byte) {
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// tpmRequest makes a command without sessions.
func tpmRequest(cc uint32, body []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, stNoSessions)
	return append(append(b, words(uint32(10+len(body)), cc)...), body...)
}

func tpmSuccess() []byte { return tpmRequest(0, nil) }
