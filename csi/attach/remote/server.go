package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/fault"
)

// maxBody is more than any request needs.
const maxBody = 64 << 10

// Handler serves an attacher. Bodies hold secrets: none is ever logged.
func Handler(a attach.Attacher) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST "+pathAttach, answer(a.Attach))
	mux.Handle("POST "+pathDetach, answer(func(ctx context.Context, r reference) (struct{}, error) {
		return struct{}{}, a.Detach(ctx, r.ID)
	}))
	mux.Handle("POST "+pathResize, answer(func(ctx context.Context, r reference) (attach.Device, error) {
		return a.Resize(ctx, r.ID)
	}))
	mux.Handle("POST "+pathDevices, answer(func(ctx context.Context, _ struct{}) ([]attach.Device, error) {
		return a.List(ctx)
	}))
	if r, ok := a.(attach.Renewer); ok {
		mux.Handle("POST "+pathRenew, answer(r.Renew))
	}
	return mux
}

func answer[In, Out any](call func(context.Context, In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in); err != nil {
			reply(w, http.StatusBadRequest, pack(fault.Errorf(fault.Invalid, "the request is not of its form")))
			return
		}
		out, err := call(r.Context(), in)
		if err != nil {
			klog.InfoS("Call failed", "call", r.URL.Path, "reason", err.Error())
			reply(w, http.StatusUnprocessableEntity, pack(err))
			return
		}
		reply(w, http.StatusOK, out)
	})
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		klog.V(2).InfoS("The caller is gone", "reason", fmt.Sprint(err))
	}
}
