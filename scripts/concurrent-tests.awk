# Prints the names of the tests in *_test.go files that start goroutines, directly or through a helper in these
# files. Only these tests can have data races.
#
#   awk -f scripts/concurrent-tests.awk internal/store/*_test.go

/^func / {
  name = rest = $0
  sub(/^func (\([^)]*\) )?/, "", name)
  sub(/[^A-Za-z0-9_].*/, "", name)
  sub(/^[^{]*\{/, "", rest)
  if (rest ~ /\}$/) { body[name] = body[name] "\n" rest; name = "" } # a function on one line
  next
}
/^}/ { name = "" }
name != "" { body[name] = body[name] "\n" $0 }

END {
  for (f in body) if (body[f] ~ /(^|[^A-Za-z0-9_.])go (func|[a-z])|\.Go\(|WaitGroup/) starts[f] = 1
  do {
    more = 0
    for (f in body) {
      if (f in starts) continue
      for (s in starts) {
        if (s !~ /^Test/ && body[f] ~ ("[^A-Za-z0-9_]" s "\\(")) { starts[f] = more = 1; break }
      }
    }
  } while (more)
  for (f in starts) if (f ~ /^Test/) print f
}
