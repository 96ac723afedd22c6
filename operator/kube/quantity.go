package kube

import "k8s.io/apimachinery/pkg/api/resource"

// sameQuantity reports whether two texts are one quantity: the server writes
// "1024Mi" back as "1Gi".
func sameQuantity(a, b any) bool {
	left, ok := a.(string)
	if !ok {
		return false
	}
	right, ok := b.(string)
	if !ok {
		return false
	}
	x, err := resource.ParseQuantity(left)
	if err != nil {
		return false
	}
	y, err := resource.ParseQuantity(right)
	return err == nil && x.Cmp(y) == 0
}
