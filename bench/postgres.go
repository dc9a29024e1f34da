package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
)

// postgres starts a PostgreSQL server for this run with durable commits.
func (b *bench) postgres(ctx context.Context) (url string, stop func(), err error) {
	script, dir := filepath.Join(b.repo, "scripts", "postgres.sh"), filepath.Join(b.work, "postgres")
	text, err := exec.CommandContext(ctx, script, "start", dir).Output()
	if err != nil {
		return "", nil, fmt.Errorf("starting PostgreSQL: %w", err)
	}
	stop = func() { exec.Command(script, "stop", dir).Run() }
	url = strings.TrimSpace(string(text))
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		stop()
		return "", nil, err
	}
	defer conn.Close(ctx)
	// The script's configuration for tests is not durable; a benchmark needs durable commits.
	for _, setting := range []string{"fsync = on", "synchronous_commit = on", "full_page_writes = on"} {
		if _, err := conn.Exec(ctx, "ALTER SYSTEM SET "+setting); err != nil {
			stop()
			return "", nil, err
		}
	}
	if _, err := conn.Exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		stop()
		return "", nil, err
	}
	var version string
	if err := conn.QueryRow(ctx, "SHOW server_version").Scan(&version); err != nil {
		stop()
		return "", nil, err
	}
	b.peer("PostgreSQL " + version)
	return url, stop, nil
}
