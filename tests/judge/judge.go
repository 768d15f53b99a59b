// Makes certificates as they are found and as they should not be, and asks Go what it thinks of each: a handshake by
// crypto/tls, as between any two components of Kubernetes. Writes tests/judge/certificates.json, which tests/judge.rs compares
// with what certwarden says. Only the standard library is used:
//
//	cd tests/judge && go run . > certificates.json
package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"runtime"
	"time"
)

// At which everything is judged.
var now = time.Date(2027, 6, 1, 12, 0, 0, 0, time.UTC)

type extension struct {
	ID       asn1.ObjectIdentifier
	Critical bool `asn1:"optional"`
	Value    []byte
}

type validity struct{ From, To asn1.RawValue }

type algorithm struct {
	ID         asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

type tbs struct {
	Version    int `asn1:"optional,explicit,default:0,tag:0"`
	Serial     *big.Int
	Algorithm  algorithm
	Issuer     asn1.RawValue
	Validity   validity
	Subject    asn1.RawValue
	Key        asn1.RawValue
	Extensions []extension `asn1:"optional,explicit,tag:3"`
}

type certificate struct {
	TBS       asn1.RawValue
	Algorithm algorithm
	Signature asn1.BitString
}

// What a certificate says; the zero value of a field is what kubeadm writes.
type spec struct {
	version    int
	serial     *big.Int
	subject    []byte
	issuer     []byte
	from, to   asn1.RawValue
	extensions []extension
	hash       string
	break_     bool
	key        crypto.Signer
}

type made struct {
	der []byte
	key crypto.Signer
	spec
}

type row struct {
	Name    string `json:"name"`
	Server  bool   `json:"server"`
	CA      int    `json:"ca"`
	Chain   int    `json:"chain"`
	Key     int    `json:"key"`
	Refused string `json:"refused,omitempty"`
}

var (
	rows  []row
	files []string
)

// The number of a file; the same text is there once.
func file(text string) int {
	for i, known := range files {
		if known == text {
			return i
		}
	}
	files = append(files, text)
	return len(files) - 1
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func oid(n ...int) asn1.ObjectIdentifier { return n }

func raw(tag int, value string) asn1.RawValue {
	return asn1.RawValue{FullBytes: append(append([]byte{byte(tag)}, length(len(value))...), value...)}
}

func length(n int) []byte {
	if n < 128 {
		return []byte{byte(n)}
	}
	return []byte{0x82, byte(n >> 8), byte(n)}
}

func sequence(parts ...[]byte) []byte {
	return raw(0x30, string(bytes.Join(parts, nil))).FullBytes
}

// A name of one CN with a string of this type.
func name(tag int, cn string) []byte {
	attribute := sequence(must(asn1.Marshal(oid(2, 5, 4, 3))), raw(tag, cn).FullBytes)
	return sequence(raw(0x31, string(attribute)).FullBytes)
}

const (
	utf8, printable, ia5, t61, bmp, numeric, universal = 0x0c, 0x13, 0x16, 0x14, 0x1e, 0x12, 0x1c
)

func utc(text string) asn1.RawValue         { return raw(0x17, text) }
func generalized(text string) asn1.RawValue { return raw(0x18, text) }

func ec(curve elliptic.Curve) crypto.Signer { return must(ecdsa.GenerateKey(curve, rand.Reader)) }

var p256 = [3]crypto.Signer{ec(elliptic.P256()), ec(elliptic.P256()), ec(elliptic.P256())}

func constraints(value string) extension { return extension{oid(2, 5, 29, 19), true, []byte(value)} }
func keyUsage(bits byte) extension       { return extension{oid(2, 5, 29, 15), true, []byte{3, 2, 0, bits}} }
func extended(ids ...int) extension {
	var parts [][]byte
	for _, id := range ids {
		usage := oid(1, 3, 6, 1, 5, 5, 7, 3, id)
		if id == 0 {
			usage = oid(2, 5, 29, 37, 0)
		}
		parts = append(parts, must(asn1.Marshal(usage)))
	}
	return extension{oid(2, 5, 29, 37), false, sequence(parts...)}
}
func san(critical bool, names ...[]byte) extension {
	return extension{oid(2, 5, 29, 17), critical, sequence(names...)}
}
func dns(text string) []byte   { return raw(0x82, text).FullBytes }
func ip(text string) []byte    { return raw(0x87, text).FullBytes }
func email(text string) []byte { return raw(0x81, text).FullBytes }
func uri(text string) []byte   { return raw(0x86, text).FullBytes }
func other() []byte {
	return raw(0xa0, string(must(asn1.Marshal(oid(1, 2, 3))))+"\xa0\x04\x0c\x02ab").FullBytes
}

const caTrue, caFalse, caPath0, caPath1 = "\x30\x03\x01\x01\xff", "\x30\x00", "\x30\x06\x01\x01\xff\x02\x01\x00", "\x30\x06\x01\x01\xff\x02\x01\x01"

var caExtensions = []extension{keyUsage(0xa4), constraints(caTrue)}

func leafExtensions(server bool) []extension {
	if server {
		return []extension{keyUsage(0xa0), extended(1), san(false, dns("localhost"), ip("\x7f\x00\x00\x01"))}
	}
	return []extension{keyUsage(0xa0), extended(2)}
}

func sign(s spec, by crypto.Signer) []byte {
	if s.serial == nil {
		s.serial = big.NewInt(0x1234567890)
	}
	if s.from.FullBytes == nil {
		s.from = utc("270101000000Z")
	}
	if s.to.FullBytes == nil {
		s.to = utc("350101000000Z")
	}
	null := asn1.RawValue{FullBytes: []byte{5, 0}}
	var a algorithm
	var digest []byte
	var hash crypto.Hash
	_, isRSA := by.(*rsa.PrivateKey)
	public := must(x509.MarshalPKIXPublicKey(s.key.Public()))
	body := tbs{s.version, s.serial, a, asn1.RawValue{FullBytes: s.issuer}, validity{s.from, s.to}, asn1.RawValue{FullBytes: s.subject}, asn1.RawValue{FullBytes: public}, s.extensions}
	switch {
	case s.hash == "sha1" && isRSA:
		a, hash = algorithm{oid(1, 2, 840, 113549, 1, 1, 5), null}, crypto.SHA1
	case s.hash == "sha1":
		a, hash = algorithm{ID: oid(1, 2, 840, 10045, 4, 1)}, crypto.SHA1
	case s.hash == "sha384" && isRSA:
		a, hash = algorithm{oid(1, 2, 840, 113549, 1, 1, 12), null}, crypto.SHA384
	case s.hash == "sha384":
		a, hash = algorithm{ID: oid(1, 2, 840, 10045, 4, 3, 3)}, crypto.SHA384
	case s.hash == "sha512":
		a, hash = algorithm{ID: oid(1, 2, 840, 10045, 4, 3, 4)}, crypto.SHA512
	case isRSA:
		a, hash = algorithm{oid(1, 2, 840, 113549, 1, 1, 11), null}, crypto.SHA256
	default:
		a, hash = algorithm{ID: oid(1, 2, 840, 10045, 4, 3, 2)}, crypto.SHA256
	}
	_, isEd := by.(ed25519.PrivateKey)
	if isEd {
		a, hash = algorithm{ID: oid(1, 3, 101, 112)}, crypto.Hash(0)
	}
	body.Algorithm = a
	if s.hash == "mismatch" {
		body.Algorithm = algorithm{ID: oid(1, 2, 840, 10045, 4, 3, 3)}
	}
	content := must(asn1.Marshal(body))
	switch hash {
	case crypto.SHA1:
		sum := sha1.Sum(content)
		digest = sum[:]
	case crypto.SHA384:
		sum := sha512.Sum384(content)
		digest = sum[:]
	case crypto.SHA512:
		sum := sha512.Sum512(content)
		digest = sum[:]
	case crypto.SHA256:
		sum := sha256.Sum256(content)
		digest = sum[:]
	default:
		digest = content
	}
	signature := must(by.Sign(rand.Reader, digest, hash))
	if s.break_ {
		signature[len(signature)-1] ^= 1
	}
	return must(asn1.Marshal(certificate{asn1.RawValue{FullBytes: content}, a, asn1.BitString{Bytes: signature, BitLength: len(signature) * 8}}))
}

var plain *made

// A self-signed CA; the one that kubeadm would make is made once.
func ca(change func(*spec)) made {
	if change == nil && plain != nil {
		return *plain
	}
	s := spec{version: 2, subject: name(printable, "kubernetes"), issuer: name(printable, "kubernetes"), extensions: caExtensions, key: p256[0]}
	if change != nil {
		change(&s)
	}
	one := made{sign(s, s.key), s.key, s}
	if change == nil {
		plain = &one
	}
	return one
}

func below(parent made, change func(*spec)) made {
	s := spec{version: 2, subject: name(printable, "between"), issuer: parent.subject, extensions: caExtensions, key: p256[1]}
	if change != nil {
		change(&s)
	}
	return made{sign(s, parent.key), s.key, s}
}

func leaf(parent made, server bool, change func(*spec)) made {
	s := spec{version: 2, subject: name(printable, "leaf"), issuer: parent.subject, extensions: leafExtensions(server), key: p256[2]}
	if change != nil {
		change(&s)
	}
	return made{sign(s, parent.key), s.key, s}
}

func text(all ...made) string {
	var out bytes.Buffer
	for _, one := range all {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: one.der})
	}
	return out.String()
}

// The names that a client would dial: the first that the leaf has.
func dialled(chain []made) string {
	if parsed, err := x509.ParseCertificate(chain[0].der); err == nil {
		if len(parsed.DNSNames) > 0 {
			return parsed.DNSNames[0]
		}
		if len(parsed.IPAddresses) > 0 {
			return parsed.IPAddresses[0].String()
		}
	}
	return "localhost"
}

func handshake(server bool, cas, chain []made, key string) error {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(text(cas...))) {
		return io.ErrUnexpectedEOF // client-go: a bundle without a certificate is an error
	}
	pair, err := tls.X509KeyPair([]byte(text(chain...)), []byte(key))
	if err != nil {
		return err
	}
	own := must(tls.X509KeyPair([]byte(text(other_)), []byte(keyText(other_.key))))
	clock := func() time.Time { return now }
	serverConfig, clientConfig := &tls.Config{Time: clock, Certificates: []tls.Certificate{pair}}, &tls.Config{Time: clock, RootCAs: pool, ServerName: dialled(chain)}
	if !server {
		serverConfig = &tls.Config{Time: clock, Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
		clientConfig = &tls.Config{Time: clock, InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }}
	}
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	b := must(net.Dial("tcp", listener.Addr().String()))
	a := must(listener.Accept())
	_ = listener.Close()
	for _, end := range []net.Conn{a, b} {
		_ = end.SetDeadline(time.Now().Add(5 * time.Second))
	}
	done := make(chan error, 1)
	go func() {
		s := tls.Server(a, serverConfig)
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("x"))
		}
		done <- err
		_ = a.Close()
	}()
	c := tls.Client(b, clientConfig)
	err = c.Handshake()
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	_ = b.Close()
	if of := <-done; !server && of != nil {
		return of
	}
	return err
}

func keyText(key crypto.Signer) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))}))
}

var other_ = ca(func(s *spec) { s.extensions = leafExtensions(true); s.key = p256[0] })

func judge(title string, server bool, cas []made, chain ...made) {
	key := keyText(chain[0].key)
	r := row{Name: title, Server: server, CA: file(text(cas...)), Chain: file(text(chain...)), Key: file(key)}
	if err := handshake(server, cas, chain, key); err != nil {
		r.Refused = err.Error()
	}
	rows = append(rows, r)
}

// The same of a server and of a client.
func both(title string, make func(server bool) (cas []made, chain []made)) {
	for _, server := range []bool{true, false} {
		cas, chain := make(server)
		suffix := ", client"
		if server {
			suffix = ", server"
		}
		judge(title+suffix, server, cas, chain...)
	}
}

func main() {
	authorities()
	leaves()
	chains()
	constrained()
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	_ = encoder.Encode(map[string]any{"now": now.Format(time.RFC3339), "by": runtime.Version(), "files": files, "rows": rows})
}
