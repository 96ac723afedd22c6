package luks

import (
	"crypto/aes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/xts"
)

const passphrase = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func make1(t *testing.T) []byte {
	device, err := Header([]byte(passphrase))
	require.NoError(t, err)
	return device
}

// Both headers have their checksums, and say where they are.
func TestHeaders(t *testing.T) {
	device := make1(t)
	require.Less(t, len(device), DataOffset)
	for i, magic := range []string{"LUKS\xba\xbe\x00\x02", "SKUL\xba\xbe\x00\x02"} {
		header := append([]byte(nil), device[i*headerSize:(i+1)*headerSize]...)
		require.Equal(t, magic, string(header[:8]))
		require.Equal(t, uint64(i*headerSize), binary.BigEndian.Uint64(header[256:]))
		sum := append([]byte(nil), header[448:480]...)
		clear(header[448:512])
		want := sha256.Sum256(header)
		require.Equal(t, want[:], sum)
	}
	require.Equal(t, device[binarySize:headerSize], device[headerSize+binarySize:2*headerSize])
	require.NotEqual(t, device[areaOffset:], make1(t)[areaOffset:])
	require.NotContains(t, string(device), passphrase)
}

type salted struct {
	Salt, Digest string
	Iterations   int
}

func decode(t *testing.T, text string) []byte {
	raw, err := base64.StdEncoding.DecodeString(text)
	require.NoError(t, err)
	return raw
}

// The keyslot gives, by the way back, the key whose digest is in the header.
func TestTheKeyComesBack(t *testing.T) {
	device := make1(t)
	var metadata struct {
		Keyslots map[string]struct{ KDF salted }
		Digests  map[string]salted
	}
	end := binarySize
	for device[end] != 0 {
		end++
	}
	require.NoError(t, json.Unmarshal(device[binarySize:end], &metadata))
	derived, err := pbkdf2.Key(sha256.New, passphrase, decode(t, metadata.Keyslots["0"].KDF.Salt), metadata.Keyslots["0"].KDF.Iterations, keySize)
	require.NoError(t, err)
	cipher, err := xts.NewCipher(aes.NewCipher, derived)
	require.NoError(t, err)
	area := device[areaOffset : areaOffset+keySize*stripes]
	for i := 0; i < len(area); i += 512 {
		cipher.Decrypt(area[i:i+512], area[i:i+512], uint64(i/512))
	}
	key := make([]byte, keySize)
	for i := range stripes {
		xor(key, area[i*keySize:])
		if i < stripes-1 {
			key = diffuse(key)
		}
	}
	digest := metadata.Digests["0"]
	got, err := pbkdf2.Key(sha256.New, string(key), decode(t, digest.Salt), digest.Iterations, sha256.Size)
	require.NoError(t, err)
	require.Equal(t, decode(t, digest.Digest), got)
}
