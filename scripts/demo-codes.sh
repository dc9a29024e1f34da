#!/usr/bin/env bash
# Runs the workflow of product codes (one item, one code) with 20,000,000 codes, from the application to the ticket, and checks
# every code with independent programs: curl, openssl, awk, sort, and two readers of printed symbols.
#
#   scripts/demo-codes.sh                       about two minutes on two cores, 1.6 GB in TMPDIR
#   DEMO_CODES=100000 scripts/demo-codes.sh     a few seconds
#
# It starts a server in a temporary folder, and removes the folder at the end. DEMO_SAMPLE is the number of rows that are
# decoded as symbols (500), QRJUMP_BINARY the path of a built server.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

codes=${DEMO_CODES:-20000000}
sample=${DEMO_SAMPLE:-500}
key=0123456789abcdef # the key of the account's packages, 16 characters; also the initialisation vector
seed='
accounts:
  - {appid: wxminiprogram0001, kind: mini_program, name: Coffee, secret: secret0001, certified: true, versions: [release]}
  - {appid: wxserviceacct0001, kind: service_account, name: Coffee Service, secret: secret0002, certified: true,
     features: [marketcode], marketcode_key: '$key', linked: [wxminiprogram0001]}
settings:
  call_log_max_rows: 0 # the call log grows with the duration of the demo, not with the number of codes
'

say() { printf '%s\n' "$*"; }
title() { printf '\n== %s\n' "$*"; }
fail() { printf 'demo-codes: %s\n' "$*" >&2; exit 1; }

# --- arguments and cleanup

case $codes in '' | *[!0-9]*) fail "DEMO_CODES must be a number, not $codes" ;; esac
[ "$codes" -ge 10000 ] && [ "$codes" -le 20000000 ] && [ $((codes % 10000)) = 0 ] ||
  fail "DEMO_CODES must be a multiple of 10000, at most 20000000"
case $sample in '' | *[!0-9]* | 0) fail "DEMO_SAMPLE must be a positive number, not $sample" ;; esac
[ "$sample" -le "$codes" ] || sample=$codes
scripts/install-test-deps.sh codes

work=$(mktemp -d "${TMPDIR:-/tmp}/qrjump-demo-codes.XXXXXX")
server=
downloads=
stop() {
  local pid=$server
  server=
  [ -n "$pid" ] || return 0
  kill "$pid" 2>/dev/null || true
  wait "$pid" || { say "demo-codes: the server exited with an error" >&2; return 1; }
}
finish() {
  local status=$?
  trap '' INT TERM HUP
  [ -z "$downloads" ] || kill "$downloads" 2>/dev/null || true
  stop || status=1
  [ "$status" = 0 ] || [ ! -s "$work/log" ] || { say "the end of the server's log:" && tail -n 5 "$work/log"; } >&2
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The two stored columns have 39 bytes per row; sorting them requires the same space.
required=$((codes / 1000 * 80 / 1000 + 50))
free=$(df -Pm "$work" | awk 'NR == 2 { print $4 }')
[ "$free" -ge "$required" ] || fail "$required MB are required in ${TMPDIR:-/tmp}, $free MB are free: set TMPDIR"

# --- calls

# call PATH BODY makes a call and prints it; the response is in $answer.
call() {
  local path=$1 body=$2 shown
  shown=${path/access_token=*/access_token=TOKEN}
  say "-> POST $shown"
  say "   $body"
  answer=$(curl -sS -m 60 "$url$path" -H 'Content-Type: application/json' -d "$body")
  shown=$answer
  [ ${#shown} -le 400 ] || shown="${shown:0:300} ... ${shown: -60}"
  say "<- $shown"
}

# wire CALL BODY makes one of the six calls for product codes, which must succeed.
wire() {
  call "/intp/marketcode/$1?access_token=$token" "$2"
  [ "$(field errcode)" = 0 ] || fail "$1 did not return errcode 0"
}

# field NAME prints a string or number of the response.
field() { sed -nE 's/.*"'"$1"'":("([^"]*)"|([-0-9]+)).*/\2\3/p' <<<"$answer"; }

# expect NAME VALUE checks a field of the response.
expect() { [ "$(field "$1")" = "$2" ] || fail "$1 = \"$(field "$1")\", want \"$2\""; }

# data_bytes prints the total size of the files in the data folder.
data_bytes() { du -sb "$data" | awk '{ print $1 }'; }

# since TIME prints the seconds since TIME.
since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.2f", to - from }'; }

# --- the application

title "building and starting the server: qrjump serve --dev --seed demo.yaml"
binary=${QRJUMP_BINARY:-$work/qrjump}
[ -n "${QRJUMP_BINARY:-}" ] || go build -o "$binary" ./cmd/qrjump
data=$work/data
say "$seed" >"$work/demo.yaml"
mkfifo "$work/ready"
"$binary" serve --dev --listen 127.0.0.1:0 --data "$data" --seed "$work/demo.yaml" >"$work/ready" 2>"$work/log" &
server=$!
read -r line <"$work/ready" || fail "the server did not start"
say "   $line"
url=${line#qrjump ready }

title "1. a token of the service account"
answer=$(curl -sS -m 60 "$url/cgi-bin/token?grant_type=client_credential&appid=wxserviceacct0001&secret=secret0002")
token=$(field access_token)
[ -n "$token" ] || fail "no token in $answer"
bytes_start=$(data_bytes)
say "   got a token; the data folder has $bytes_start bytes"

title "2. apply for $codes codes"
start=$EPOCHREALTIME
wire applycode '{"code_count":'"$codes"',"isv_application_id":"demo-1"}'
application=$(field application_id)
until wire applycodequery '{"application_id":'"$application"'}' && [ "$(field status)" = FINISH ]; do sleep 0.1; done
say "   FINISH $(since "$start") s after the application"
grep -o '"code_start":[0-9]*,"code_end":[0-9]*' <<<"$answer" | tr -cs '0-9\n' ' ' >"$work/segments"
segments=$(wc -l <"$work/segments")
awk -v codes="$codes" '$1 != next_index || $2 < $1 { exit bad = 1 } { next_index = $2 + 1 } END { exit bad || next_index != codes }' \
  "$work/segments" || fail "the segments do not cover 0 to $((codes - 1))"
bytes_applied=$(data_bytes)
say "   $segments segments; the data folder now has $bytes_applied bytes: $((bytes_applied - bytes_start)) more"

# --- the package

title "3. download all $segments segments, two at a time; decode, decrypt, check each row"
say "   curl | cut (the buffer in the JSON) | openssl enc -d -aes-128-cbc -base64 -A -K KEY -iv KEY | awk"
mkdir "$work/rows" "$work/symbols"
shuf -n "$sample" -i "0-$((codes - 1))" >"$work/sample"

# check.awk checks the text of a segment, based only on the documented package format.
cat >"$work/check.awk" <<'AWK'
function bad(why) { print "row " NR ": " why ": " $0 > "/dev/stderr"; exit failed = 1 }
BEGIN { while ((getline line < samplefile) > 0) wanted[line] }
length($1) != 361 || $1 ~ /[^01]/                  { bad("column 1 is not 19 x 19 dots") }
length($2) != 9 || $2 ~ /[^0-9A-Z]/                { bad("column 2 is not a code of 9 characters") }
$3 "" != (first + NR - 1) ""                       { bad("column 3 is not the next index") }
length($4) != 28 || substr($4, 1, 10) != "P.URL.CN/0" || substr($4, 11) ~ /[^0-9A-Z$-]/ { bad("column 4 is not a code text") }
NF != 4 || length($0) != 361 + 9 + length($3) + 28 + 3 { bad("not four columns with one space between them") }
{ print $2 > (out ".codes"); print $4 > (out ".texts") }
$3 in wanted { print > (out ".sample") }
END { if (!failed && NR != last - first + 1) bad("the segment has " NR " rows"); if (failed) exit 1; print NR > (out ".count") }
AWK

# segment FIRST LAST checks a segment and stores two columns and the rows of the sample; nothing else is written to disk.
segment() {
  local hex out="$work/rows/$1"
  hex=$(printf %s "$key" | od -An -tx1 | tr -d ' \n')
  curl -sS -m 300 "$url/intp/marketcode/applycodedownload?access_token=$token" -H 'Content-Type: application/json' \
    -d '{"application_id":'"$application"',"code_start":'"$1"',"code_end":'"$2"'}' |
    cut -d '"' -f 10 | # {"errcode":0,"errmsg":"ok","buffer":"..."}
    openssl enc -d -aes-128-cbc -base64 -A -K "$hex" -iv "$hex" |
    awk -v first="$1" -v last="$2" -v out="$out" -v samplefile="$work/sample" -f "$work/check.awk" || {
    say "the segment from $1 to $2 is invalid" >&2
    return 255 # ends xargs
  }
  [ $((($2 + 1) % 2000000)) != 0 ] || say "   ... the segment up to $2 is done"
}
export -f segment say
export url token application key work
start=$EPOCHREALTIME
xargs -n 2 -P 2 bash -o pipefail -c 'segment "$@"' segment <"$work/segments" &
downloads=$! # in the background, so that signals to this script take effect at once
wait "$downloads" || { downloads= && fail "a download failed"; }
downloads=
say "   all downloaded, decrypted and checked in $(since "$start") s"
[ ! -r "/proc/$server/status" ] || say "   the server's peak memory: $(awk '/^VmHWM/ { print $2, $3 }' "/proc/$server/status")"

title "4. check that all codes and texts are distinct"
# count_distinct FILES... prints the number of distinct lines, with a bounded buffer.
count_distinct() { sort -u -S 256M --parallel=1 -T "$work" -- "$@" | wc -l; }
rows=$(cat "$work"/rows/*.count | awk '{ sum += $1 } END { print sum }')
count_distinct "$work"/rows/*.codes >"$work/distinct" &
texts=$(count_distinct "$work"/rows/*.texts)
wait $!
say "   $rows rows, indexes 0 to $((codes - 1)) in order, $(cat "$work/distinct") distinct codes, $texts distinct texts"
[ "$rows" = "$codes" ] && [ "$(cat "$work/distinct")" = "$codes" ] && [ "$texts" = "$codes" ] || fail "want $codes of each"
rm -f "$work"/rows/*.codes "$work"/rows/*.texts

title "5. draw $sample random rows as symbols, and read them with independent readers"
sort -n -k 3 "$work"/rows/*.sample >"$work/sampled"
[ "$(wc -l <"$work/sampled")" = "$sample" ] || fail "the sample has $(wc -l <"$work/sampled") rows"
# Column 1 as a picture with six pixels per dot and no margin; column 4 as a QR code of version 2, level Q.
awk -v dir="$work/symbols" '{
  file = sprintf("%s/%09d.pbm", dir, $3)
  print "P1 114 114" > file
  gsub(/./, "&&&&&&", $1)
  for (row = 0; row < 19; row++) for (i = 0; i < 6; i++) print substr($1, row * 114 + 1, 114) > file
  close(file)
}' "$work/sampled"
while read -r _ _ index text; do
  qrencode -v 2 -l Q --strict-version -o "$work/symbols/$(printf %09d "$index").png" "$text"
done <"$work/sampled"
printf '%s\0' "$work"/symbols/*.pbm | xargs -0 -n 200 dmtxread -n -N 1 >"$work/read.codes" || fail "dmtxread could not read all dot matrices"
printf '%s\0' "$work"/symbols/*.png | xargs -0 -n 200 zbarimg --nodbus -q --raw >"$work/read.texts" || fail "zbarimg could not read all QR codes"
awk '{ print $2 }' "$work/sampled" | cmp - "$work/read.codes" || fail "a dot matrix has a wrong code"
awk '{ print $4 }' "$work/sampled" | cmp - "$work/read.texts" || fail "a QR code has a wrong text"
say "   dmtxread read $(wc -l <"$work/read.codes") codes from column 1, zbarimg $(wc -l <"$work/read.texts") texts from QR codes 2-Q: equal to the package"

# --- activation, scan, ticket

read -r _ code index text < <(sed -n "$((sample / 2 + 1))p" "$work/sampled")
title "6. scan code $index before it is active"
call /scan/v1/resolve '{"text":"'"$text"'","user":"ann"}'
expect reason not_active

title "7. activate all $codes codes"
bytes_inactive=$(data_bytes)
start=$EPOCHREALTIME
wire codeactive '{"application_id":'"$application"',"code_start":0,"code_end":'$((codes - 1))',"activity_name":"summer","product_brand":"Coffee","product_title":"Beans 250 g","product_code":"4006381333931","wxa_appid":"wxminiprogram0001","wxa_path":"pages/item/item"}'
bytes_active=$(data_bytes)
say "   active after $(since "$start") s; the data folder now has $bytes_active bytes: $((bytes_active - bytes_inactive)) more"
wire codeactivequery '{"code_url":"'"$text"'"}'
expect code "$code"

title "8. scan it again: the Mini Program opens, with a ticket"
call /scan/v1/resolve '{"text":"'"$text"'","user":"ann"}'
expect action open_mini_program
expect scene 1124
ticket=$(field path)
[[ $ticket =~ ^pages/item/item\?code_ticket=([0-9a-f]{32})$ ]] || fail "the page is $ticket"
ticket=${BASH_REMATCH[1]}

# openid USER logs a user in to the Mini Program, whose server exchanges the code for the openid.
openid() {
  call /scan/v1/login '{"user":"'"$1"'","appid":"wxminiprogram0001"}'
  say "-> GET /sns/jscode2session?grant_type=authorization_code&appid=wxminiprogram0001&js_code=..."
  answer=$(curl -sS -m 60 "$url/sns/jscode2session?grant_type=authorization_code&appid=wxminiprogram0001&secret=secret0001&js_code=$(field js_code)")
  say "<- $answer"
  [ -n "$(field openid)" ] || fail "no openid in the response"
}
title "9. the user logs in to the Mini Program"
openid ann
ann=$(field openid)

title "10. the brand's server exchanges the ticket for the code"
wire tickettocode '{"openid":"'"$ann"'","code_ticket":"'"$ticket"'"}'
expect code "$code"

title "11. another user cannot"
openid bob
call "/intp/marketcode/tickettocode?access_token=$token" '{"openid":"'"$(field openid)"'","code_ticket":"'"$ticket"'"}'
expect errcode 40097

# The limit is independent of the number of codes: pages of the database's write-ahead log, and background writes of the
# server.
growth=$((bytes_applied - bytes_start + bytes_active - bytes_inactive))
[ "$growth" -le 262144 ] || fail "$codes codes made the data folder $growth bytes larger"
title "$codes codes: applied for, downloaded, checked, activated, scanned and exchanged in $SECONDS s"
say "   applying and activating made the data folder $growth bytes larger while the server ran"
stop
say "   the server is stopped and its write-ahead log is checkpointed: the data folder has $(data_bytes) bytes in all"
