package main

import (
	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/csi/attach/probe"
)

// probeAttach says how this node can attach a volume, best first.
func probeAttach() []v1alpha1.AttachMethod {
	var methods []v1alpha1.AttachMethod
	for _, m := range probe.Methods("/") {
		methods = append(methods, v1alpha1.AttachMethod{Name: m.Name, Available: m.Usable, Message: m.Reason})
	}
	return methods
}
