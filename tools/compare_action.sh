#!/bin/sh
# The step of action.yml: runs fewmark compare, writes its page to the job's summary and its verdict to the outputs.
# Everything from outside comes in environment variables, and is never part of a command's text.
set -eu
fewmark="$RUNNER_TEMP/fewmark/bin/fewmark"
python="$RUNNER_TEMP/fewmark/bin/python"
page="$RUNNER_TEMP/comparison.md"
json="$RUNNER_TEMP/comparison.json"

set -f # words of ARGUMENTS are split, never globbed
set -- "$BASELINE" "$RESULTS" --threshold "$THRESHOLD" --confidence-level "$LEVEL" $ARGUMENTS
[ -z "$METRIC" ] || set -- "$@" --metric "$METRIC"
code=0
"$fewmark" compare "$@" --json --out "$page" >"$json" || code=$?
[ "$code" -le 1 ] || exit "$code" # a wrong request: the message says what

verdict=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["verdict"])' "$json")
words=$("$python" -c 'import json, sys; print(" ".join(json.load(open(sys.argv[1]))["words"].split()))' "$json")
echo "$words"
cat "$page" >>"$GITHUB_STEP_SUMMARY"
{
    echo "verdict=$verdict"
    echo "words=$words"
    echo "page=$page"
} >>"$GITHUB_OUTPUT"
case "$FAIL_ON:$verdict" in
never:*) exit 0 ;;
fail:FAIL | inconclusive:FAIL | inconclusive:INCONCLUSIVE) exit 1 ;;
fail:* | inconclusive:*) exit 0 ;;
*)
    echo "fail-on is fail, inconclusive or never, not: $FAIL_ON" >&2
    exit 2
    ;;
esac
