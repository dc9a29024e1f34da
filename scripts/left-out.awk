# Reads the output of go test -json and prints the number of skipped tests for each reason.
#
# The reason is the last line with the name of a test file that a test logged before it was skipped.
/"Action":"output"/ && /_test\.go:[0-9]+: |dbtest\.go:[0-9]+: |\.go:[0-9]+: / {
  if (match($0, /"Test":"[^"]*"/)) {
    test = key($0)
    line = $0
    sub(/.*"Output":" *[^ ]*\.go:[0-9]+: /, "", line)
    sub(/(\\n)?"}$/, "", line)
    gsub(/\\"/, "\"", line)
    said[test] = line
  }
}
/"Action":"skip"/ && /"Test":"/ {
  reason = said[key($0)]
  if (reason == "") reason = "no reason was given"
  if (!(reason in times)) order[++reasons] = reason
  times[reason]++
}
function key(line,   package) {
  package = line
  sub(/.*"Package":"/, "", package)
  sub(/".*/, "", package)
  match(line, /"Test":"[^"]*"/)
  return package " " substr(line, RSTART, RLENGTH)
}
END {
  for (i = 1; i <= reasons; i++) {
    if (order[i] ~ /^left to make test-all/) later += times[order[i]]
    else printf "   left out: %d %s: %s\n", times[order[i]], times[order[i]] == 1 ? "test" : "tests", order[i]
  }
  if (later) printf "   left to make test-all: %d %s\n", later, later == 1 ? "test" : "tests"
}
