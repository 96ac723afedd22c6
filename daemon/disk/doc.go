// Package disk knows what block devices a node has, which of them Cairn may
// use, how one becomes an OSD, and how it is emptied again. Looking never writes.
// Nothing but a device that is blank in every respect, or that bears the OSD's own
// label, is ever written to.
package disk
