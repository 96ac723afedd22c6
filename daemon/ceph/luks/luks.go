// Package luks makes headers of LUKS2, as librbd and cryptsetup read them, for
// passphrases that are random.
//
// librbd's own formatting makes a passphrase expensive to guess: seconds of a
// core for each making and each opening. A passphrase of 256 random bits cannot
// be guessed, however cheap a guess is.
package luks

import (
	"crypto/aes"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"golang.org/x/crypto/xts"
)

// DataOffset is where the data begins, in bytes: what a header takes.
const DataOffset = 16 << 20

const (
	binarySize = 4096
	headerSize = 16384 // the binary header and the JSON after it; there are two
	keySize    = 64    // AES-256-XTS
	stripes    = 4000
	areaOffset = 2 * headerSize
	areaSize   = (keySize*stripes + 4095) / 4096 * 4096
	iterations = 1000 // the fewest that LUKS2 knows
	saltSize   = 32
	cipherName = "aes-xts-plain64"
)

// Header makes the beginning of a device: both headers, and the key of the data,
// which is random, in one keyslot for the passphrase.
func Header(passphrase []byte) ([]byte, error) {
	return HeaderOf(Identity{UUID: uuid.NewString()}, largeSector, passphrase)
}

// HeaderOf makes the beginning of a device that says in the clear whose it is. Its data
// are encrypted in sectors of a size, by which that of the device can be divided.
func HeaderOf(id Identity, sector int, passphrase []byte) ([]byte, error) {
	if err := id.check(); err != nil {
		return nil, err
	}
	key, err := random(keySize)
	if err != nil {
		return nil, err
	}
	slotSalt, err := random(saltSize)
	if err != nil {
		return nil, err
	}
	area, err := keyslot(passphrase, slotSalt, key)
	if err != nil {
		return nil, err
	}
	metadata, err := describe(key, slotSalt, sector)
	if err != nil {
		return nil, err
	}
	device := make([]byte, areaOffset+areaSize)
	for i, magic := range []string{"LUKS\xba\xbe", "SKUL\xba\xbe"} {
		header := device[i*headerSize : (i+1)*headerSize]
		if err := fill(header, magic, id, uint64(i*headerSize), metadata); err != nil {
			return nil, err
		}
	}
	copy(device[areaOffset:], area)
	return device, nil
}

func random(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("make random bytes: %w", err)
	}
	return b, nil
}

// fill writes one header: the binary part, big-endian, and the JSON.
func fill(header []byte, magic string, id Identity, offset uint64, metadata []byte) error {
	salt, err := random(64)
	if err != nil {
		return err
	}
	copy(header, magic)
	binary.BigEndian.PutUint16(header[6:], 2)
	binary.BigEndian.PutUint64(header[8:], headerSize)
	copy(header[72:], "sha256")
	copy(header[104:], salt)
	binary.BigEndian.PutUint64(header[256:], offset)
	copy(header[binarySize:], metadata)
	id.write(header)
	return nil
}

// keyslot encrypts the key, split so that all of it must survive to be read, with
// what the passphrase gives.
func keyslot(passphrase, salt, key []byte) ([]byte, error) {
	derived, err := pbkdf2.Key(sha256.New, string(passphrase), salt, iterations, keySize)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	cipher, err := xts.NewCipher(aes.NewCipher, derived)
	if err != nil {
		return nil, fmt.Errorf("set up AES-XTS: %w", err)
	}
	area, err := split(key)
	if err != nil {
		return nil, err
	}
	const sector = 512
	for i := 0; i < len(area); i += sector {
		cipher.Encrypt(area[i:i+sector], area[i:i+sector], uint64(i/sector))
	}
	return area, nil
}

// split is LUKS's anti-forensic splitter.
func split(key []byte) ([]byte, error) {
	area, err := random(keySize * stripes)
	if err != nil {
		return nil, err
	}
	mixed := make([]byte, keySize)
	last := area[keySize*(stripes-1):]
	for i := range stripes - 1 {
		xor(mixed, area[i*keySize:])
		mixed = diffuse(mixed)
	}
	copy(last, key)
	xor(last, mixed)
	return area, nil
}

func xor(into, with []byte) {
	for i := range into {
		into[i] ^= with[i]
	}
}

// diffuse hashes each part of a block with its number.
func diffuse(block []byte) []byte {
	var out []byte
	for i := 0; i*sha256.Size < len(block); i++ {
		part := block[i*sha256.Size : min((i+1)*sha256.Size, len(block))]
		sum := sha256.Sum256(append(binary.BigEndian.AppendUint32(nil, uint32(i)), part...))
		out = append(out, sum[:len(part)]...)
	}
	return out
}

type object = map[string]any

// describe makes the JSON. Numbers of 64 bits are strings in it.
func describe(key, slotSalt []byte, sector int) ([]byte, error) {
	digestSalt, err := random(saltSize)
	if err != nil {
		return nil, err
	}
	digest, err := pbkdf2.Key(sha256.New, string(key), digestSalt, iterations, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("make the key's digest: %w", err)
	}
	text := base64.StdEncoding.EncodeToString
	number := func(n int) string { return fmt.Sprint(n) }
	raw, err := json.Marshal(object{
		"keyslots": object{"0": object{
			"type": "luks2", "key_size": keySize,
			"af":   object{"type": "luks1", "stripes": stripes, "hash": "sha256"},
			"area": object{"type": "raw", "offset": number(areaOffset), "size": number(areaSize), "encryption": cipherName, "key_size": keySize},
			"kdf":  object{"type": "pbkdf2", "hash": "sha256", "iterations": iterations, "salt": text(slotSalt)},
		}},
		"tokens": object{},
		"segments": object{"0": object{
			"type": "crypt", "offset": number(DataOffset), "size": "dynamic", "iv_tweak": "0", "encryption": cipherName, "sector_size": sector}},
		"digests": object{"0": object{
			"type": "pbkdf2", "keyslots": []string{"0"}, "segments": []string{"0"}, "hash": "sha256", "iterations": iterations,
			"salt": text(digestSalt), "digest": text(digest)}},
		"config": object{"json_size": number(headerSize - binarySize), "keyslots_size": number(DataOffset - areaOffset)},
	})
	if err != nil {
		return nil, fmt.Errorf("write the header's JSON: %w", err)
	}
	return raw, nil
}
