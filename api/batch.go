package api

// BatchItem is part of every item of a batch. A front that can't read a field of an
// item says so here and goes on, since the other items must not suffer for it.
type BatchItem struct {
	Problem string `json:"-" audit:"-"` // what is wrong with the item, "" if it was read
}

// Reject notes what is wrong with the item; what was noted first stays.
func (b *BatchItem) Reject(problem string) {
	if b.Problem == "" {
		b.Problem = problem
	}
}
