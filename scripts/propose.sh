#!/bin/sh
# Proposes what changed in the checkout by a pull request: scripts/propose.sh BRANCH TITLE WORKFLOW
# Nothing happens where nothing changed. A branch that was proposed before and is not merged yet gets what changed since. What a workflow
# pushes starts no other, so WORKFLOW is asked to run on the branch. git and gh are those of a hosted runner, with GH_TOKEN.
set -eu
branch=$1
title=$2
workflow=$3
if git diff --quiet HEAD; then
    echo "nothing changed"
    exit 0
fi
git diff --stat HEAD
git switch --quiet --force-create "$branch"
git -c user.name='github-actions[bot]' -c user.email='41898282+github-actions[bot]@users.noreply.github.com' \
    commit --quiet --all --message "$title"
# One that is proposed already is not pushed again: its checks would begin anew every day.
if git fetch --quiet origin "$branch" 2> /dev/null && git diff --quiet FETCH_HEAD HEAD; then
    echo "$branch has that already"
    exit 0
fi
git push --quiet --force origin "$branch"
if [ -z "$(gh pr list --head "$branch" --state open --json number --jq '.[].number')" ]; then
    gh pr create --head "$branch" --title "$title" --body "Made by the workflow \`builder\`. The checks of $workflow run on the branch."
fi
gh workflow run "$workflow" --ref "$branch"
