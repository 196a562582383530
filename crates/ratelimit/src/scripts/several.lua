-- Part: several limits at once, all or nothing.
--
-- Limit n has the key KEYS[n], and from ARGV[first + 7 (n - 1)] on: its kind, its cost, and five
-- fields with its algorithm's parameters, of which the first is always the most units that it has.

local LOOK = {
  fixed = look_fixed,
  counter = look_counter,
  log = look_log,
  bucketed = look_bucketed,
  gcra = look_gcra,
  concurrency = look_concurrency,
}

local TAKE = {
  fixed = take_fixed,
  counter = take_counter,
  log = take_log,
  bucketed = take_bucketed,
  gcra = take_gcra,
  concurrency = take_concurrency,
}

-- Looks at `count` limits, at each with its own cost and `more` units, or with `only` units.
-- Gives: whether all allow it, the longest wait of those that do not, what each said, and when asking
-- again makes sense. Leases are left out of the wait, since most of them are released before they run
-- out, and not out of when to ask again.
local function look_at(count, first, more, only)
  local all, longest, said, hint = true, 0, {}, 0
  for n = 1, count do
    local p = first + 7 * (n - 1)
    local cost = only or math.min(ARGV[p + 1] + more, tonumber(ARGV[p + 2]))
    local one = { LOOK[ARGV[p]](KEYS[n], cost, p + 2) }
    if not one[1] then
      all = false
      hint = math.max(hint, one[4])
      if ARGV[p] ~= 'concurrency' then
        longest = math.max(longest, one[4])
      end
    end
    said[n] = one
  end
  return all, longest, said, hint
end

-- Takes from all of them what `look_at` found allowed.
local function take_from(count, first, said)
  for n = 1, count do
    local p, one = first + 7 * (n - 1), said[n]
    one[5], one[6], one[7] = TAKE[ARGV[p]](KEYS[n], tonumber(ARGV[p + 1]), p + 2, one[5], one[6], one[7])
  end
end

-- Adds seven numbers for each limit to a reply: allowed (1, 0), units left, µs until all are back,
-- µs until it would be allowed, mark, part, given.
local function report(reply, count, said, taken)
  for n = 1, count do
    local one, at = said[n], #reply
    reply[at + 1] = one[1] and 1 or 0
    reply[at + 2], reply[at + 3], reply[at + 4] = one[2], one[3], one[4]
    reply[at + 5] = taken and one[5] or 0
    reply[at + 6] = taken and one[6] or 0
    reply[at + 7] = taken and one[7] or 0
  end
  return reply
end
