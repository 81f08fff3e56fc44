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
