package p11kit

import (
	"time"

	"github.com/claviger/claviger/internal/p11"
)

// infoFresh is how long what is known of a slot counts.
const infoFresh = 5 * time.Second

// info is what is known of a slot.
type info struct {
	*p11.Info
	at time.Time
}

// handshake are the bytes that C_Initialize of the module sends.
const handshake = "PRIVATE-GNOME-KEYRING-PKCS11-PROTOCOL-V-1"

func doInitialize(c *call) error {
	hello := c.reader.bytes()
	c.reader.Bool()  // whether there are settings for the module,
	c.reader.bytes() // and they: this one has none
	switch err := c.reader.End(); {
	case err != nil:
		return err
	case string(hello) != handshake:
		return refusal(p11.CKR_GENERAL_ERROR, "the first bytes of C_Initialize are not the protocol's")
	case c.up:
		return refusal(ckrAlreadyInitialized, "C_Initialize came twice")
	}
	c.up = true
	return nil
}

func doFinalize(c *call) error {
	if err := c.end(); err != nil {
		return err
	}
	c.closeAll(c.ctx)
	return nil
}

func doGetInfo(c *call) error {
	if err := c.end(); err != nil {
		return err
	}
	c.release(2, 40)
	c.text("Claviger", 32)
	c.writer.U64(0)
	c.text("Claviger agent", 32)
	c.release(c.Service.Version())
	return nil
}

func doGetSlotList(c *call) error {
	c.reader.Bool() // every slot has its token
	room := c.room()
	if err := c.end(); err != nil {
		return err
	}
	slots := make([]uint64, len(c.Service.Labels()))
	for i := range slots {
		slots[i] = uint64(i)
	}
	c.numbers(slots, room)
	return nil
}

// slot takes a "u" that is a slot.
func (c *call) slot() uint32 {
	n := c.number()
	if n >= uint64(len(c.Service.Labels())) {
		c.refuse(p11.CKR_SLOT_ID_INVALID, "there is no such slot")
		return 0
	}
	return uint32(n)
}

func doGetSlotInfo(c *call) error {
	slot := c.slot()
	if err := c.end(); err != nil {
		return err
	}
	c.text(c.Service.Labels()[slot], 64)
	c.text("Claviger", 32)
	c.writer.U64(ckfTokenPresent)
	c.release(0, 0)
	c.release(0, 0)
	return nil
}

// about is what is known of a slot; the server is asked every few seconds.
func (c *call) about(slot uint32) (*p11.Info, error) {
	if i := c.infos[slot]; i != nil && time.Since(i.at) < infoFresh {
		return i.Info, nil
	}
	i, err := c.Service.Info(c.ctx, c.caller(slot))
	if err != nil {
		return nil, err
	}
	c.infos[slot] = &info{i, time.Now()}
	return i, nil
}

func doGetTokenInfo(c *call) error {
	slot := c.slot()
	if err := c.end(); err != nil {
		return err
	}
	i, err := c.about(slot)
	if err != nil {
		return err
	}
	c.text(i.Label, 32)
	c.text(i.Manufacturer, 32)
	c.text(i.Model, 16)
	c.text(i.Serial, 16)
	flags := uint64(ckfRNG | ckfTokenInit | ckfUserPIN)
	if i.Flags&p11.InfoLogin != 0 {
		flags |= ckfLoginRequired
	}
	all, rw := c.count(slot)
	for _, n := range []uint64{
		flags, unlimited, all, unlimited, rw, p11.MaxToken, 1, unavailable, unavailable, unavailable, unavailable,
	} {
		c.writer.U64(n)
	}
	c.release(i.Major, i.Minor)
	c.release(i.Major, i.Minor)
	c.text("0000000000000000", 16)
	return nil
}

// mechanisms are those of the token, and the digests that are made here.
func (c *call) mechanisms(slot uint32) ([]p11.MechanismInfo, error) {
	i, err := c.about(slot)
	if err != nil {
		return nil, err
	}
	all := append([]p11.MechanismInfo{}, i.Mechanisms...)
	for _, n := range digests {
		all = append(all, p11.MechanismInfo{Number: n, Flags: ckfDigest})
	}
	return all, nil
}

func doGetMechanismList(c *call) error {
	slot, room := c.slot(), c.room()
	if err := c.end(); err != nil {
		return err
	}
	all, err := c.mechanisms(slot)
	if err != nil {
		return err
	}
	list := make([]uint64, len(all))
	for i := range all {
		list[i] = all[i].Number
	}
	c.numbers(list, room)
	return nil
}

func doGetMechanismInfo(c *call) error {
	slot, number := c.slot(), c.number()
	if err := c.end(); err != nil {
		return err
	}
	all, err := c.mechanisms(slot)
	if err != nil {
		return err
	}
	for i := range all {
		if m := &all[i]; m.Number == number {
			c.writer.U64(uint64(m.Min))
			c.writer.U64(uint64(m.Max))
			c.writer.U64(m.Flags)
			return nil
		}
	}
	return refusal(p11.CKR_MECHANISM_INVALID, "the mechanism is not offered")
}

// doWaitForSlotEvent: slots never change. A caller that wants to wait would wait for
// ever, and keep all other calls of its program waiting.
func doWaitForSlotEvent(c *call) error {
	flags := c.number()
	if err := c.end(); err != nil {
		return err
	}
	if flags&ckfDontBlock == 0 {
		return refusal(p11.CKR_FUNCTION_NOT_SUPPORTED, "slots do not change: there is nothing to wait for")
	}
	return refusal(ckrNoEvent, "slots do not change")
}
