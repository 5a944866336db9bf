package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// openRedis connects to a server by URL, or starts one whose data ends with it.
func openRedis(ctx context.Context, url, folder string) (client *redis.Client, end func(), err error) {
	if url != "" {
		options, err := redis.ParseURL(url)
		if err != nil {
			return nil, nil, fmt.Errorf("REDIS_URL: %w", err)
		}
		client = redis.NewClient(options)
		return client, func() { client.Close() }, client.Ping(ctx).Err()
	}
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, nil, errors.New("no redis-server: install it, or name a server in REDIS_URL")
	}
	socket := filepath.Join(folder, "redis.sock")
	server := exec.Command(path, "--port", "0", "--unixsocket", socket, "--dir", folder, "--save", "", "--maxmemory-policy", "noeviction")
	if err := server.Start(); err != nil {
		return nil, nil, err
	}
	client = redis.NewClient(&redis.Options{Network: "unix", Addr: socket})
	end = func() {
		client.Close()
		server.Process.Kill() // by its own process ID
		server.Wait()
	}
	for range 100 {
		if err = client.Ping(ctx).Err(); err == nil {
			return client, end, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	end()
	return nil, nil, fmt.Errorf("redis-server does not answer: %w", err)
}

// nginx serves addr by nginx until ctx is done.
func (c *cluster) nginx(ctx context.Context, path, addr, folder string) error {
	addr, err := settle(addr)
	if err != nil {
		return err
	}
	var upstream strings.Builder
	for _, i := range c.instances {
		fmt.Fprintf(&upstream, "server %s;\n", i.addr)
	}
	config := fmt.Sprintf(`
daemon off;
pid %[1]s/nginx.pid;
error_log stderr error;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	upstream shops {
		%[2]s
	}
	server {
		listen %[3]s;
		location / {
			proxy_pass http://shops;
			proxy_set_header Host $http_host; # which the shop compares with Origin
		}
	}
}`, folder, upstream.String(), addr)
	file := filepath.Join(folder, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	if err := os.Chmod(folder, 0o711); err != nil { // nginx's workers have another user
		return err
	}
	server := exec.Command(path, "-c", file, "-p", folder)
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	for range 100 {
		if res, err := http.Get("http://" + addr + "/healthz"); err == nil {
			res.Body.Close()
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.announce(addr, "nginx")
	select {
	case err := <-ended:
		return fmt.Errorf("nginx has ended: %w", err)
	case <-ctx.Done():
	}
	server.Process.Signal(os.Interrupt)
	<-ended
	return nil
}

// settle replaces the port 0 by a free one, as nginx cannot.
func settle(addr string) (string, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
