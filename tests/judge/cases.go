package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"math/big"
)

type change struct {
	title string
	apply func(*spec)
}

func with(extensions ...extension) func(*spec) { return func(s *spec) { s.extensions = extensions } }

func more(extension_ extension) func(*spec) {
	return func(s *spec) { s.extensions = append(append([]extension{}, s.extensions...), extension_) }
}

func rsaKey(bits int) crypto.Signer { return must(rsa.GenerateKey(rand.Reader, bits)) }

func serial(bytes int) *big.Int {
	n := big.NewInt(0x7f)
	return n.Lsh(n, uint(8*(bytes-1)))
}

// What may be odd about any certificate.
func oddities() []change {
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	unknown := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}
	return []change{
		{"negative serial", func(s *spec) { s.serial = big.NewInt(-5) }},
		{"serial 0", func(s *spec) { s.serial = big.NewInt(0) }},
		{"serial of 20 bytes", func(s *spec) { s.serial = serial(20) }},
		{"serial of 40 bytes", func(s *spec) { s.serial = serial(40) }},
		{"version 4", func(s *spec) { s.version = 3 }},
		{"unknown extension", more(extension{unknown, false, []byte{5, 0}})},
		{"unknown critical extension", more(extension{unknown, true, []byte{5, 0}})},
		{"extension twice", more(keyUsage(0xa4))},
		{"critical key identifier", more(extension{oid(2, 5, 29, 14), true, []byte{4, 2, 1, 2}})},
		{"key identifier", more(extension{oid(2, 5, 29, 14), false, []byte{4, 2, 1, 2}})},
		{"critical authority key identifier", more(extension{oid(2, 5, 29, 35), true, []byte{0x30, 4, 0x80, 2, 1, 2}})},
		{"expired", func(s *spec) { s.to = utc("270501000000Z") }},
		{"expired long ago", func(s *spec) { s.from, s.to = utc("990101000000Z"), utc("000101000000Z") }},
		{"not yet valid", func(s *spec) { s.from = utc("280101000000Z") }},
		{"without end", func(s *spec) { s.to = generalized("99991231235959Z") }},
		{"a hundred years", func(s *spec) { s.to = generalized("21270101000000Z") }},
		{"early GeneralizedTime", func(s *spec) { s.to = generalized("20300101000000Z") }},
		{"UTCTime of 1950", func(s *spec) { s.from = utc("500101000000Z") }},
		{"UTCTime without seconds", func(s *spec) { s.to = utc("3501010000Z") }},
		{"GeneralizedTime with a fraction", func(s *spec) { s.to = generalized("20350101000000.5Z") }},
		{"date that is none", func(s *spec) { s.to = utc("351301000000Z") }},
		{"UTF-8 name", func(s *spec) { s.subject = name(utf8, "ä") }},
		{"name that is not UTF-8", func(s *spec) { s.subject = name(utf8, "\xff") }},
		{"PrintableString with _", func(s *spec) { s.subject = name(printable, "a_b") }},
		{"PrintableString with @", func(s *spec) { s.subject = name(printable, "a@b") }},
		{"PrintableString with *", func(s *spec) { s.subject = name(printable, "*.b") }},
		{"IA5String", func(s *spec) { s.subject = name(ia5, "a@b") }},
		{"T61String", func(s *spec) { s.subject = name(t61, "a\xe4") }},
		{"BMPString", func(s *spec) { s.subject = name(bmp, "\x00a\x00b") }},
		{"half a BMPString", func(s *spec) { s.subject = name(bmp, "\x00a\x00") }},
		{"NumericString", func(s *spec) { s.subject = name(numeric, "12 3") }},
		{"UniversalString", func(s *spec) { s.subject = name(universal, "\x00\x00\x00a") }},
		{"Ed25519", func(s *spec) { s.key = ed }},
		{"P-384", func(s *spec) { s.key = ec(elliptic.P384()) }},
		{"P-521", func(s *spec) { s.key = ec(elliptic.P521()) }},
		{"RSA 1024", func(s *spec) { s.key = rsaKey(1024) }},
		{"RSA 2048", func(s *spec) { s.key = rsaKey(2048) }},
	}
}

func authorities() {
	of := func(title string, apply func(*spec)) {
		both("CA: "+title, func(server bool) ([]made, []made) {
			// its own name in whatever form is the issuer of the leaf
			parent := ca(func(s *spec) {
				apply(s)
				s.issuer = s.subject
			})
			return []made{parent}, []made{leaf(parent, server, nil)}
		})
	}
	of("as kubeadm makes it", func(*spec) {})
	for _, odd := range oddities() {
		of(odd.title, odd.apply)
	}
	for _, c := range []change{
		{"without constraints", with(keyUsage(0xa4))},
		{"CA:FALSE", with(keyUsage(0xa4), constraints(caFalse))},
		{"without key usage", with(constraints(caTrue))},
		{"without keyCertSign", with(keyUsage(0xa0), constraints(caTrue))},
		{"only keyCertSign", with(keyUsage(0x04), constraints(caTrue))},
		{"no CAs below", with(keyUsage(0xa4), constraints(caPath0))},
		{"for servers", with(keyUsage(0xa4), constraints(caTrue), extended(1))},
		{"for clients", with(keyUsage(0xa4), constraints(caTrue), extended(2))},
		{"for both", with(keyUsage(0xa4), constraints(caTrue), extended(1, 2))},
		{"for all", with(keyUsage(0xa4), constraints(caTrue), extended(0))},
		{"for code", with(keyUsage(0xa4), constraints(caTrue), extended(3))},
		{"version 1", func(s *spec) { s.version, s.extensions = 0, nil }},
		{"signed with SHA-1", func(s *spec) { s.hash = "sha1" }},
	} {
		of(c.title, c.apply)
	}
	both("CA: its name in another string type", func(server bool) ([]made, []made) {
		parent := ca(func(s *spec) { s.subject = name(utf8, "kubernetes") })
		child := leaf(parent, server, func(s *spec) { s.issuer = name(printable, "kubernetes") })
		return []made{parent}, []made{child}
	})
	both("CA: another of the same name", func(server bool) ([]made, []made) {
		another := ca(func(s *spec) { s.key = p256[1] })
		return []made{another}, []made{leaf(ca(nil), server, nil)}
	})
	both("CA: the second of two", func(server bool) ([]made, []made) {
		another := ca(func(s *spec) { s.key = p256[1] })
		return []made{another, ca(nil)}, []made{leaf(ca(nil), server, nil)}
	})
}

func leaves() {
	of := func(title string, server bool, apply func(*spec)) {
		what := "client: "
		if server {
			what = "server: "
		}
		judge(what+title, server, []made{ca(nil)}, leaf(ca(nil), server, apply))
	}
	for _, server := range []bool{true, false} {
		of("as kubeadm makes it", server, func(*spec) {})
		for _, odd := range oddities() {
			of(odd.title, server, odd.apply)
		}
		for _, c := range []change{
			{"signed with SHA-1", func(s *spec) { s.hash = "sha1" }},
			{"signed with SHA-384", func(s *spec) { s.hash = "sha384" }},
			{"signed with SHA-512", func(s *spec) { s.hash = "sha512" }},
			{"algorithms that differ", func(s *spec) { s.hash = "mismatch" }},
			{"broken signature", func(s *spec) { s.break_ = true }},
			{"without usages", with(san(false, dns("localhost")))},
			{"for servers", with(keyUsage(0xa0), extended(1), san(false, dns("localhost")))},
			{"for clients", with(keyUsage(0xa0), extended(2), san(false, dns("localhost")))},
			{"for all", with(keyUsage(0xa0), extended(0), san(false, dns("localhost")))},
			{"for code", with(keyUsage(0xa0), extended(3), san(false, dns("localhost")))},
			{"for enciphering only", with(keyUsage(0x20), extended(1, 2), san(false, dns("localhost")))},
			{"that is a CA", with(keyUsage(0xa4), constraints(caTrue), extended(1, 2), san(false, dns("localhost")))},
			{"no name", with(keyUsage(0xa0), extended(1, 2))},
			{"an address", with(extended(1, 2), san(false, ip("\x0a\x00\x00\x01")))},
			{"a long address", with(extended(1, 2), san(false, ip("\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01")))},
			{"an address of 5 bytes", with(extended(1, 2), san(false, dns("localhost"), ip("\x0a\x00\x00\x01\x00")))},
			{"a name that is not ASCII", with(extended(1, 2), san(false, dns("localh\xf6st")))},
			{"only an e-mail address", with(extended(1, 2), san(false, email("a@b")))},
			{"only a URI", with(extended(1, 2), san(false, uri("https://a/b")))},
			{"only another name", with(extended(1, 2), san(false, other()))},
			{"only another name, critical", with(extended(1, 2), san(true, other()))},
			{"a name, critical", with(extended(1, 2), san(true, dns("localhost")))},
			{"no names in their extension", with(extended(1, 2), san(false))},
		} {
			of(c.title, server, c.apply)
		}
	}
}

func chains() {
	both("chain: over one between", func(server bool) ([]made, []made) {
		root := ca(nil)
		between := below(root, nil)
		return []made{root}, []made{leaf(between, server, nil), between}
	})
	both("chain: without the one between", func(server bool) ([]made, []made) {
		root := ca(nil)
		return []made{root}, []made{leaf(below(root, nil), server, nil)}
	})
	both("chain: the one between is trusted", func(server bool) ([]made, []made) {
		between := below(ca(nil), nil)
		return []made{between}, []made{leaf(between, server, nil)}
	})
	both("chain: the root behind the leaf", func(server bool) ([]made, []made) {
		root := ca(nil)
		return []made{root}, []made{leaf(root, server, nil), root}
	})
	both("chain: a root that allows no CA below", func(server bool) ([]made, []made) {
		root := ca(with(keyUsage(0xa4), constraints(caPath0)))
		between := below(root, nil)
		return []made{root}, []made{leaf(between, server, nil), between}
	})
	both("chain: a root that allows one CA below", func(server bool) ([]made, []made) {
		root := ca(with(keyUsage(0xa4), constraints(caPath1)))
		between := below(root, nil)
		return []made{root}, []made{leaf(between, server, nil), between}
	})
	for _, c := range []change{
		{"is no CA", with(keyUsage(0xa0), constraints(caFalse))},
		{"says nothing", with()},
		{"may not sign", with(keyUsage(0xa0), constraints(caTrue))},
		{"has expired", func(s *spec) { s.to = utc("270501000000Z") }},
		{"has a negative serial", func(s *spec) { s.serial = big.NewInt(-5) }},
		{"is signed with SHA-1", func(s *spec) { s.hash = "sha1" }},
	} {
		both("chain: one between that "+c.title, func(server bool) ([]made, []made) {
			root := ca(nil)
			between := below(root, c.apply)
			return []made{root}, []made{leaf(between, server, nil), between}
		})
	}
	both("chain: something else behind the leaf", func(server bool) ([]made, []made) {
		root, another := ca(nil), ca(func(s *spec) { s.subject, s.key = name(printable, "x"), p256[1] })
		return []made{root}, []made{leaf(root, server, nil), another}
	})
	both("chain: something broken behind the leaf", func(server bool) ([]made, []made) {
		root, another := ca(nil), ca(func(s *spec) { s.serial = big.NewInt(-5) })
		return []made{root}, []made{leaf(root, server, nil), another}
	})
}

// Name constraints: subtrees that are permitted and such that are excluded.
func constrain(critical bool, permitted, excluded [][]byte) extension {
	var parts [][]byte
	for i, subtrees := range [][][]byte{permitted, excluded} {
		var all []byte
		for _, base := range subtrees {
			all = append(all, sequence(base)...)
		}
		if subtrees != nil {
			parts = append(parts, raw(0xa0+i, string(all)).FullBytes)
		}
	}
	return extension{oid(2, 5, 29, 30), critical, sequence(parts...)}
}

func network(text string) []byte { return raw(0x87, text).FullBytes }
func directory() []byte          { return raw(0xa4, string(name(printable, "kubernetes"))).FullBytes }

// A CA that says what those below it may be called, and what those are called.
func constrained() {
	type names [][]byte
	const ten, fd = "\x0a\x00\x00\x00\xff\x00\x00\x00", "\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	address, long := ip("\x0a\x00\x00\x01"), ip("\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01")
	for _, c := range []struct {
		title               string
		permitted, excluded names
		of                  names
	}{
		{"a domain, and that", names{dns("example.com")}, nil, names{dns("example.com")}},
		{"a domain, and one below it", names{dns("example.com")}, nil, names{dns("a.b.example.com")}},
		{"a domain, and one of another case", names{dns("Example.com")}, nil, names{dns("a.eXample.com")}},
		{"a domain, and one that ends like it", names{dns("example.com")}, nil, names{dns("notexample.com")}},
		{"a domain, and another", names{dns("example.com")}, nil, names{dns("example.org")}},
		{"a domain, and that with another", names{dns("example.com")}, nil, names{dns("example.com"), dns("localhost")}},
		{"a domain, and a wildcard of it", names{dns("example.com")}, nil, names{dns("*.example.com")}},
		{"one host, and a wildcard", names{dns("a.example.com")}, nil, names{dns("*.example.com")}},
		{"what is below a domain, and the domain", names{dns(".example.com")}, nil, names{dns("example.com")}},
		{"what is below a domain, and that", names{dns(".example.com")}, nil, names{dns("a.example.com")}},
		{"two domains, and the second", names{dns("example.com"), dns("example.org")}, nil, names{dns("a.example.org")}},
		{"every domain", names{dns("")}, nil, names{dns("a.example.org")}},
		{"a domain, and an address", names{dns("example.com")}, nil, names{address}},
		{"a domain, and no names", names{dns("example.com")}, nil, nil},
		{"a domain, and its name with a dot at the end", names{dns("example.com")}, nil, names{dns("example.com.")}},
		{"a domain, and a name that is none", names{dns("example.com")}, nil, names{dns("a..example.com")}},
		{"a network, and an address of it", names{network(ten)}, nil, names{address}},
		{"a network, and an address of another", names{network(ten)}, nil, names{ip("\x0b\x00\x00\x01")}},
		{"a network, and an address of IPv6", names{network(ten)}, nil, names{long}},
		{"a network, and a name", names{network(ten)}, nil, names{dns("localhost")}},
		{"a network of IPv6, and an address of it", names{network(fd)}, nil, names{long}},
		{"a network with a mask that has gaps", names{network("\x0a\x00\x00\x00\xff\x00\xff\x00")}, nil, names{address}},
		{"a network of five bytes", names{network("\x0a\x00\x00\x00\xff")}, nil, names{address}},
		{"a domain, and an e-mail address", names{dns("example.com")}, nil, names{dns("example.com"), email("a@b.c")}},
		{"a domain, and a URI", names{dns("example.com")}, nil, names{dns("example.com"), uri("https://a.b/c")}},
		{"a domain, and a URI without a host", names{dns("example.com")}, nil, names{dns("example.com"), uri("urn:a")}},
		{"a domain, and a URI with an address", names{dns("example.com")}, nil, names{dns("example.com"), uri("https://10.0.0.1/")}},
		{"mail of a domain, and that", names{email("example.com")}, nil, names{dns("localhost"), email("a@Example.com")}},
		{"mail of a domain, and another's", names{email("example.com")}, nil, names{dns("localhost"), email("a@example.org")}},
		{"one mailbox, and that", names{email("a@example.com")}, nil, names{dns("localhost"), email("a@example.com")}},
		{"one mailbox, and another", names{email("a@example.com")}, nil, names{dns("localhost"), email("b@example.com")}},
		{"URIs of a domain, and one", names{uri("example.com")}, nil, names{dns("localhost"), uri("spiffe://a.example.com:8443/b")}},
		{"URIs of a domain, and another", names{uri("example.com")}, nil, names{dns("localhost"), uri("spiffe://cluster.local/b")}},
		{"a directory name", names{directory()}, nil, names{dns("localhost")}},
		{"all but a domain, and that", nil, names{dns("example.com")}, names{dns("example.com")}},
		{"all but a domain, and one below it", nil, names{dns("example.com")}, names{dns("a.example.com")}},
		{"all but a domain, and another", nil, names{dns("example.com")}, names{dns("localhost")}},
		{"all but a host, and a wildcard that is it, too", nil, names{dns("a.example.com")}, names{dns("*.Example.com")}},
		{"all but a network, and an address of it", nil, names{network(ten)}, names{address}},
		{"all but a network, and another", nil, names{network(ten)}, names{ip("\x0b\x00\x00\x01")}},
		{"a domain but one below it, and that", names{dns("example.com")}, names{dns("a.example.com")}, names{dns("b.a.example.com")}},
		{"nothing", nil, nil, names{dns("localhost")}},
		{"an empty list", names{}, nil, names{dns("localhost")}},
	} {
		for _, critical := range []bool{false, true} {
			title := "constraints: " + c.title
			if critical {
				title += ", critical"
			}
			both(title, func(server bool) ([]made, []made) {
				parent := ca(more(constrain(critical, c.permitted, c.excluded)))
				usages := []extension{keyUsage(0xa0), extended(1, 2)}
				if c.of != nil {
					usages = append(usages, san(false, c.of...))
				}
				return []made{parent}, []made{leaf(parent, server, with(usages...))}
			})
		}
	}
	both("constraints: of one between, and the leaf", func(server bool) ([]made, []made) {
		root := ca(nil)
		between := below(root, more(constrain(true, [][]byte{dns("example.com")}, nil)))
		return []made{root}, []made{leaf(between, server, nil), between}
	})
	both("constraints: of the root over one between, and the leaf", func(server bool) ([]made, []made) {
		root := ca(more(constrain(true, [][]byte{dns("example.com")}, nil)))
		between := below(root, nil)
		return []made{root}, []made{leaf(between, server, nil), between}
	})
	both("constraints: of the root, and one between that has a name", func(server bool) ([]made, []made) {
		root := ca(more(constrain(true, [][]byte{dns("localhost")}, nil)))
		between := below(root, more(san(false, dns("example.com"))))
		return []made{root}, []made{leaf(between, server, with(keyUsage(0xa0), extended(1, 2), san(false, dns("localhost")))), between}
	})
	both("constraints: of a leaf itself", func(server bool) ([]made, []made) {
		return []made{ca(nil)}, []made{leaf(ca(nil), server, more(constrain(true, [][]byte{dns("example.com")}, nil)))}
	})
	both("constraints: of the first of two CAs of one key", func(server bool) ([]made, []made) {
		free := ca(nil)
		narrow := ca(more(constrain(true, [][]byte{dns("example.com")}, nil)))
		return []made{narrow, free}, []made{leaf(free, server, nil)}
	})
}
