package op

import (
	"context"
	"strings"
	"testing"
)

type pathReq struct {
	Name string `path:"name"`
	N    int    `path:"n"`
}

func definePath(path string) *Operation {
	return Define(Meta{Name: "test." + path, Path: path},
		func(context.Context, *Call, *pathReq) (*struct{}, error) { return nil, nil })
}

func TestRestParameter(t *testing.T) {
	t.Parallel()
	o := definePath("mounts/{n}/{name...}")
	last := o.Segments[2]
	if !last.Rest || last.Param != "name" || o.Segments[1].Rest {
		t.Fatalf("segments %+v", o.Segments)
	}
	req := o.NewRequest().(*pathReq)
	if err := o.SetParams(req, []string{"7", "a/b/c"}); err != nil {
		t.Fatal(err)
	}
	if req.N != 7 || req.Name != "a/b/c" {
		t.Errorf("got %+v", req)
	}
}

func TestLiteralAfterRest(t *testing.T) {
	t.Parallel()
	o := definePath("mounts/{name...}/tune")
	req := o.NewRequest().(*pathReq)
	if err := o.SetParams(req, []string{"a/b"}); err != nil || req.Name != "a/b" || o.Segments[2].Literal != "tune" {
		t.Errorf("%+v, %v, %+v", req, err, o.Segments)
	}
}

func TestOneLiteralMayFollowRest(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"mounts/{name...}/{n}", "mounts/{name...}/a/b", "mounts/{name...}/a/{n}"} {
		func() {
			defer func() {
				if r, _ := recover().(string); !strings.Contains(r, "at most one literal") {
					t.Errorf("%s: recovered %q", path, r)
				}
			}()
			definePath(path)
		}()
	}
}
