#!/usr/bin/env bash
# Fails when the committed generated code is not what the protos generate.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bin/tools/buf generate -o "$work"
bin/tools/buf generate --template buf.gen.kindtest.yaml -o "$work"
mkdir -p "$work/pkg/resource/docs"
bin/tools/buf build --as-file-descriptor-set -o - | go run ./hack/protodocs >"$work/pkg/resource/docs/comments.json"
status=0
while IFS= read -r -d '' f; do
  rel=${f#"$work"/}
  if ! cmp -s "$f" "$rel"; then echo "not current: $rel; run make generate" >&2; status=1; fi
done < <(find "$work" -type f -print0)
exit $status
