package testserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Sentinels are three Redis Sentinels that watch a master under the name "sealed", and
// replace it when it has been down for a second.
type Sentinels struct{ Addrs []string }

// StartSentinels starts them.
func StartSentinels(t TB, master *Redis) *Sentinels {
	t.Helper()
	host, port, _ := strings.Cut(master.Addr, ":")
	s := &Sentinels{}
	for range 3 {
		r := &Redis{t: t, folder: t.TempDir(), port: freePort(t)}
		r.Addr = fmt.Sprint("127.0.0.1:", r.port)
		config := filepath.Join(r.folder, "sentinel.conf")
		text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor sealed %s %s 2\nsentinel down-after-milliseconds sealed 1000\nsentinel failover-timeout sealed 5000\n", r.port, r.folder, host, port)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		path, err := exec.LookPath("redis-server")
		if err != nil {
			t.Fatal("no redis-server: install it (Debian: redis-server)")
		}
		r.Process = start(t, exec.Command(path, config, "--sentinel"))
		s.Addrs = append(s.Addrs, r.Addr)
		within(t, 10*time.Second, "sentinel", r.Process, func() error {
			_, err := r.Do("PING")
			return err
		})
		within(t, 20*time.Second, "the sentinels' view of each other", r.Process, func() error {
			answer, err := r.Do("SENTINEL", "CKQUORUM", "sealed")
			if len(s.Addrs) == 3 && err == nil && !strings.Contains(answer, "3 usable") {
				err = errors.New(answer)
			}
			if len(s.Addrs) < 3 {
				err = nil
			}
			return err
		})
	}
	return s
}

// StartRedisCluster starts a Redis Cluster of three masters, each with a replica. Those
// come behind them in the list, in their order.
func StartRedisCluster(t TB) []*Redis {
	t.Helper()
	var nodes []*Redis
	for range 6 {
		nodes = append(nodes, StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", fmt.Sprint(freePort(t)),
			"--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no", "--appendonly", "no"))
	}
	for n, slots := range []string{"0 5460", "5461 10922", "10923 16383"} {
		nodes[n].MustDo("CLUSTER", "ADDSLOTSRANGE", slots)
	}
	for _, node := range nodes[1:] {
		host, port, _ := strings.Cut(nodes[0].Addr, ":")
		node.MustDo("CLUSTER", "MEET", host, port, node.clusterPortOf(nodes[0]))
	}
	for n := range 3 {
		id := nodes[n].word("CLUSTER", "MYID")
		within(t, 20*time.Second, "the cluster", nodes[n+3].Process, func() error {
			_, err := nodes[n+3].Do("CLUSTER", "REPLICATE", id)
			return err
		})
	}
	for n, node := range nodes {
		within(t, 30*time.Second, "the cluster", node.Process, func() error {
			info := node.all("CLUSTER", "INFO")
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:6") {
				return errors.New(info)
			}
			if n >= 3 {
				if role := node.all("INFO", "replication"); !strings.Contains(role, "master_link_status:up") {
					return errors.New(role)
				}
			}
			return nil
		})
	}
	return nodes
}

// clusterPortOf returns the port over which another node is met.
func (r *Redis) clusterPortOf(other *Redis) string {
	for i, arg := range other.args {
		if arg == "--cluster-port" {
			return other.args[i+1]
		}
	}
	return ""
}

// word sends a command whose answer is one string, and returns that.
func (r *Redis) word(words ...string) string {
	r.t.Helper()
	_, text, _ := strings.Cut(r.all(words...), "\r\n")
	return strings.TrimSpace(text)
}

// StartRedisTLS starts a Redis that takes connections over TLS, too, at TLSAddr, and
// returns how to connect to it.
func StartRedisTLS(t TB) (*Redis, *tls.Config) {
	t.Helper()
	folder := t.TempDir()
	certificate, key, pool := selfSigned(t, folder)
	port := freePort(t)
	r := StartRedis(t, "--tls-port", fmt.Sprint(port), "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate, "--tls-auth-clients", "no")
	r.TLSAddr = fmt.Sprint("127.0.0.1:", port)
	return r, &tls.Config{RootCAs: pool}
}

// selfSigned makes a certificate for 127.0.0.1.
func selfSigned(t TB, folder string) (certificate, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for file, b := range map[string][]byte{certificate: text, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return certificate, key, pool
}

// Replica starts a replica of the server.
func (r *Redis) Replica(t TB) *Redis {
	t.Helper()
	host, port, _ := strings.Cut(r.Addr, ":")
	return StartRedis(t, "--replicaof", host+" "+port)
}
