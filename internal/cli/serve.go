package cli

import (
	"context"
	"errors"
)

func examine(ctx context.Context, e examination) (*doctorReport, error) {
	return nil, errors.New("to come")
}
