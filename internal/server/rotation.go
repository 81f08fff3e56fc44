package server

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/guard"
	"github.com/claviger/claviger/internal/op"
)

// tendEvery is how often the count of what the storage key sealed is kept, and
// its age looked at.
const tendEvery = time.Minute

func (s *Server) tendStorageKey(ctx context.Context) {
	ticker := time.NewTicker(tendEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := s.rotateIfDue(ctx); err != nil {
			s.log.Error("the storage key is due, and was not replaced; it is tried again", "error", err)
		}
	}
}

// rotateIfDue replaces the storage key when its configuration says so. Nobody
// calls, so the records in the audit log have no caller.
func (s *Server) rotateIfDue(ctx context.Context) error {
	reason, err := s.custody.RotationDue(ctx)
	if err != nil || reason == "" {
		return err
	}
	recorder := s.trail.recorder()
	if recorder == nil {
		return nil // sealed in this moment
	}
	s.log.Info("the storage key is due", "reason", reason)
	e := guard.Event{Type: guard.EventRequest, RequestID: uuid.NewString(), Operation: "sys.rotate",
		Verb: op.Write.String(), Path: "sys/rotate", DisplayName: "automatic rotation"}
	if err := recorder.Record(&e); err != nil {
		return fmt.Errorf("recording the intent: %w", err)
	}
	err = s.custody.Rotate(ctx)
	e.Type = guard.EventResponse
	if err != nil {
		e.Kind, e.Error = fault.KindOf(err), fault.Message(err)
	}
	if rerr := recorder.Record(&e); rerr != nil {
		return fmt.Errorf("recording the outcome: %w", rerr)
	}
	return err
}
