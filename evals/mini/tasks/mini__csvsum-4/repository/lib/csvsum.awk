# Sums the column CSVSUM_COLUMN by the column CSVSUM_BY (both in the environment) of a CSV file.

BEGIN {
    FS = ","
    column = ENVIRON["CSVSUM_COLUMN"]
    by = ENVIRON["CSVSUM_BY"]
    groups = 0
}

{ sub(/\r$/, "") }

NR == 1 {
    for (i = 1; i <= NF; i++)
        place[$i] = i
    if (!(column in place))
        fail("there is no column " column)
    if (by != "" && !(by in place))
        fail("there is no column " by)
    next
}

/^$/ { next }

{ add(by == "" ? "" : $place[by], $place[column]) }

END {
    if (failed)
        exit 1
    if (by == "")
        printf "%.2f\n", sum[""]
    else
        for (i = 1; i <= groups; i++)
            printf "%s\t%.2f\n", name[i], sum[name[i]]
}

function add(group, value) {
    if (value !~ /^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)?$/)
        fail("line " NR ": '" value "' is no number")
    if (!(group in sum))
        name[++groups] = group
    sum[group] += value
}

function fail(why) {
    print "csvsum: " why > "/dev/stderr"
    failed = 1
    exit 1
}
