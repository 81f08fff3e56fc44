package p11

import "context"

func doSlots(_ context.Context, s *Service, _ *Caller, r *Reader, w *Writer) error {
	if err := r.End(); err != nil {
		return err
	}
	labels := s.Labels()
	w.U32(uint32(len(labels)))
	for i, label := range labels {
		w.U32(uint32(i))
		w.Text(label)
	}
	return nil
}

func doInfo(ctx context.Context, s *Service, c *Caller, r *Reader, w *Writer) error {
	if err := r.End(); err != nil {
		return err
	}
	i, err := s.Info(ctx, c)
	if err != nil {
		return err
	}
	for _, text := range []string{i.Label, i.Serial, i.Manufacturer, i.Model} {
		w.Text(text)
	}
	w.U8(i.Major)
	w.U8(i.Minor)
	w.U8(i.Flags)
	w.U32(uint32(len(i.Mechanisms)))
	for _, m := range i.Mechanisms {
		w.U64(m.Number)
		w.U32(m.Min)
		w.U32(m.Max)
		w.U64(m.Flags)
	}
	return nil
}

func doLogin(ctx context.Context, s *Service, c *Caller, r *Reader, _ *Writer) error {
	if err := r.End(); err != nil {
		return err
	}
	return s.Login(ctx, c)
}

func doFind(ctx context.Context, s *Service, c *Caller, r *Reader, w *Writer) error {
	template, from, most := r.Attributes(), r.Bytes(), r.U32()
	if err := r.End(); err != nil {
		return err
	}
	found, err := s.Find(ctx, c, template, from, most)
	if err != nil {
		return err
	}
	w.U32(uint32(len(found.Objects)))
	for _, o := range found.Objects {
		w.Object(o)
	}
	w.Bytes(found.Next)
	return nil
}

func doGet(ctx context.Context, s *Service, c *Caller, r *Reader, w *Writer) error {
	handle := r.U64()
	if err := r.End(); err != nil {
		return err
	}
	return object(w)(s.Get(ctx, c, handle))
}

// object and output put an answer, if there is one.
func object(w *Writer) func(*Object, error) error {
	return func(o *Object, err error) error {
		if err == nil {
			w.Object(o)
		}
		return err
	}
}

func output(w *Writer) func([]byte, error) error {
	return func(b []byte, err error) error {
		if err == nil {
			w.Bytes(b)
			clear(b)
		}
		return err
	}
}

func doSign(ctx context.Context, s *Service, c *Caller, r *Reader, w *Writer) error {
	k, m, digested, data := r.Key(), r.Mechanism(), r.Bool(), r.Bytes()
	if err := r.End(); err != nil {
		return err
	}
	return output(w)(s.Sign(ctx, c, k, &m, digested, data))
}

func doVerify(ctx context.Context, s *Service, c *Caller, r *Reader, _ *Writer) error {
	k, m, digested, data, signed := r.Key(), r.Mechanism(), r.Bool(), r.Bytes(), r.Bytes()
	if err := r.End(); err != nil {
		return err
	}
	return s.Verify(ctx, c, k, &m, digested, data, signed)
}

func doRandom(ctx context.Context, s *Service, c *Caller, r *Reader, w *Writer) error {
	n := r.U32()
	if err := r.End(); err != nil {
		return err
	}
	return output(w)(s.Random(ctx, c, n))
}

func doEncrypt(ctx context.Context, s *Service, c *Caller, r *Reader, w *Writer) error {
	return doCrypt(ctx, c, r, w, s.Encrypt)
}

func doDecrypt(ctx context.Context, s *Service, c *Caller, r *Reader, w *Writer) error {
	return doCrypt(ctx, c, r, w, s.Decrypt)
}

func doCrypt(ctx context.Context, c *Caller, r *Reader, w *Writer, do func(context.Context, *Caller, Key, *Mechanism, []byte) ([]byte, error)) error {
	k, m, data := r.Key(), r.Mechanism(), r.Bytes()
	if err := r.End(); err != nil {
		return err
	}
	return output(w)(do(ctx, c, k, &m, data))
}

func doGenerate(ctx context.Context, s *Service, c *Caller, r *Reader, w *Writer) error {
	m, template := r.Mechanism(), r.Attributes()
	if err := r.End(); err != nil {
		return err
	}
	return object(w)(s.Generate(ctx, c, &m, template))
}

func doGeneratePair(ctx context.Context, s *Service, c *Caller, r *Reader, w *Writer) error {
	m, public, private := r.Mechanism(), r.Attributes(), r.Attributes()
	if err := r.End(); err != nil {
		return err
	}
	pub, priv, err := s.GeneratePair(ctx, c, &m, public, private)
	if err != nil {
		return err
	}
	w.Object(pub)
	w.Object(priv)
	return nil
}

func doCreate(ctx context.Context, s *Service, c *Caller, r *Reader, w *Writer) error {
	template := r.Attributes()
	if err := r.End(); err != nil {
		return err
	}
	return object(w)(s.Create(ctx, c, template))
}

func doCopy(ctx context.Context, s *Service, c *Caller, r *Reader, w *Writer) error {
	return doChange(ctx, c, r, w, s.Copy)
}

func doSet(ctx context.Context, s *Service, c *Caller, r *Reader, w *Writer) error {
	return doChange(ctx, c, r, w, s.Set)
}

func doChange(ctx context.Context, c *Caller, r *Reader, w *Writer, do func(context.Context, *Caller, uint64, Attributes) (*Object, error)) error {
	handle, template := r.U64(), r.Attributes()
	if err := r.End(); err != nil {
		return err
	}
	return object(w)(do(ctx, c, handle, template))
}

func doDestroy(ctx context.Context, s *Service, c *Caller, r *Reader, _ *Writer) error {
	handle := r.U64()
	if err := r.End(); err != nil {
		return err
	}
	return s.Destroy(ctx, c, handle)
}

func doWrap(ctx context.Context, s *Service, c *Caller, r *Reader, w *Writer) error {
	k, m, handle := r.Key(), r.Mechanism(), r.U64()
	if err := r.End(); err != nil {
		return err
	}
	return output(w)(s.Wrap(ctx, c, k, &m, handle))
}

func doUnwrap(ctx context.Context, s *Service, c *Caller, r *Reader, w *Writer) error {
	k, m, wrapped, template := r.Key(), r.Mechanism(), r.Bytes(), r.Attributes()
	if err := r.End(); err != nil {
		return err
	}
	return object(w)(s.Unwrap(ctx, c, k, &m, wrapped, template))
}

func doDerive(ctx context.Context, s *Service, c *Caller, r *Reader, w *Writer) error {
	k, m, template := r.Key(), r.Mechanism(), r.Attributes()
	if err := r.End(); err != nil {
		return err
	}
	return object(w)(s.Derive(ctx, c, k, &m, template))
}

// maxKeep bounds the handles of one KEEP.
const maxKeep = 4096

func doKeep(ctx context.Context, s *Service, c *Caller, r *Reader, _ *Writer) error {
	n := r.U32()
	if n > maxKeep {
		r.Fail("%d handles are more than %d: keep them in several requests", n, maxKeep)
		return r.Err
	}
	handles := make([]uint64, 0, n)
	for range n {
		handles = append(handles, r.U64())
	}
	if err := r.End(); err != nil {
		return err
	}
	return s.Keep(ctx, c, handles)
}
