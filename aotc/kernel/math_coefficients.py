"""Fits the polynomials of the math library and writes math_coefficients.h.

    pip install mpmath numpy
    python3 aotc/kernel/math_coefficients.py > aotc/kernel/math_coefficients.h

They are Chebyshev interpolants (near minimax) of the functions below, in 60 digits, lowest degree first, for f32 and
for f64.
"""
import mpmath as mp
import numpy as np

mp.mp.dps = 60


def cheb(f, lo, hi, degree):
    n = degree + 1
    lo, hi = mp.mpf(lo), mp.mpf(hi)
    xs = [(lo + hi) / 2 + (hi - lo) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * n)) for k in range(n)]
    a = mp.matrix(n, n)
    y = mp.matrix(n, 1)
    for i, x in enumerate(xs):
        y[i] = f(x)
        for j in range(n):
            a[i, j] = x**j
    return [mp.mpf(c) for c in mp.lu_solve(a, y)]


def taylor_safe(f, series):
    """f away from 0, its series near 0, where f would cancel."""
    return lambda t: series(t) if abs(t) < mp.mpf(10)**-12 else f(t)


def table(name, c, wide):
    fmt = (lambda x: repr(float(x))) if wide else (lambda x: repr(float(np.float32(float(x)))))
    body = ', '.join(fmt(x) for x in c)
    print(f'inline constexpr double {name}{"64" if wide else "32"}[] = {{{body}}};')


ln2 = mp.log(2)
tan_pi_8 = mp.sqrt(2) - 1
jobs = [
    # name, function, interval, degrees for f32 and f64
    ('kExp', taylor_safe(lambda r: (mp.exp(r) - 1 - r) / r**2, lambda r: mp.mpf(1) / 2 + r / 6), (-ln2 / 2, ln2 / 2), (4, 10)),
    ('kLog', taylor_safe(lambda z: (mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 1) * 2 / z, lambda z: mp.mpf(2) / 3 + 2 * z / 5), (0, mp.mpf('0.02944')), (2, 6)),
    # Half of kLog, to more degrees: pow amplifies its error.
    ('kPowLog', taylor_safe(lambda z: (mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, lambda z: mp.mpf(1) / 3 + z / 5), (0, mp.mpf('0.02944')), (4, 9)),
    ('kSin', taylor_safe(lambda t: (mp.sin(mp.sqrt(t)) / mp.sqrt(t) - 1) / t, lambda t: -mp.mpf(1) / 6 + t / 120), (0, (mp.pi / 4)**2), (3, 6)),
    ('kCos', taylor_safe(lambda t: (mp.cos(mp.sqrt(t)) - 1 + t / 2) / t**2, lambda t: mp.mpf(1) / 24 - t / 720), (0, (mp.pi / 4)**2), (2, 6)),
    ('kTan', taylor_safe(lambda t: (mp.tan(mp.sqrt(t)) / mp.sqrt(t) - 1) / t, lambda t: mp.mpf(1) / 3 + 2 * t / 15), (0, (mp.pi / 4)**2), (7, 0)),
    ('kAsin', taylor_safe(lambda t: (mp.asin(mp.sqrt(t)) / mp.sqrt(t) - 1) / t, lambda t: mp.mpf(1) / 6 + 3 * t / 40), (0, mp.mpf(1) / 4), (4, 12)),
    ('kAtan', taylor_safe(lambda t: (mp.atan(mp.sqrt(t)) / mp.sqrt(t) - 1) / t, lambda t: -mp.mpf(1) / 3 + t / 5), (0, tan_pi_8**2), (3, 10)),
    ('kSinh', taylor_safe(lambda t: (mp.sinh(mp.sqrt(t)) / mp.sqrt(t) - 1) / t, lambda t: mp.mpf(1) / 6 + t / 120), (0, 1), (3, 7)),
]

print('''// Made by math_coefficients.py: edit that instead. Lowest degree first.
#pragma once

namespace ingot::aotc::kernel::coefficients {
''')
for name, f, (lo, hi), degrees in jobs:
    for wide in (False, True):
        if degrees[wide] == 0:
            continue
        c = cheb(f, lo, hi, degrees[wide])
        worst = max(abs(sum(cj * x**j for j, cj in enumerate(c)) - f(x)) for x in mp.linspace(lo, hi, 400))
        print(f'// error {mp.nstr(worst, 2)}')
        table(name, c, wide)

# erf(x) = x P(t) below 1, t = x^2. f32 above: erfc((3 v + 5) / 2), v in [-1, 1], which reaches to 4.
SMALL_ERF = taylor_safe(lambda t: mp.erf(mp.sqrt(t)) / mp.sqrt(t), lambda t: 2 / mp.sqrt(mp.pi) * (1 - t / 3))
table('kErfSmall', cheb(SMALL_ERF, 0, 1, 6), False)
table('kErfLarge', cheb(lambda v: mp.erfc((3 * v + 5) / 2), -1, 1, 12), False)
# For results of f16: erf(x) = x P(t) up to 3, from where on it counts as 1; 2^f.
table('kErfHalf', cheb(SMALL_ERF, 0, 9, 8), False)
table('kExp2Half', cheb(lambda f: 2**f, -mp.mpf(1) / 2, mp.mpf(1) / 2, 4), False)
# f64: erf(x) = x P(t) below 1; above, erfc(x) = exp(-t) / x * S(v), v = (1 / x - 7/12) * 12/5 in [-1, 1].
table('kErfSmall', cheb(SMALL_ERF, 0, 1, 13), True)
table('kErfLarge', cheb(lambda v: (lambda u: mp.erfc(1 / u) * mp.exp(1 / u**2) / u)(v * 5 / 12 + mp.mpf(7) / 12), -1, 1, 20), True)

# 2 / pi in 32-bit words after the binary point, a zero word first.
words = [0]
x = 2 / mp.pi
mp.mp.dps = 120
x = 2 / mp.pi
for _ in range(7):
    x *= 2**32
    words.append(int(mp.floor(x)))
    x -= mp.floor(x)
print('inline constexpr unsigned kTwoOverPi[] = {' + ', '.join(hex(w) + 'u' for w in words) + '};')


def parts(value, bits, n, wide):
    """`value` as n parts of `bits` significant bits, the last one full."""
    out = []
    for i in range(n):
        if i + 1 < n:
            e = mp.floor(mp.log(abs(value), 2))
            unit = mp.mpf(2)**(e - bits + 1)
            part = mp.floor(value / unit) * unit
        else:
            part = mp.mpf(float(value)) if wide else mp.mpf(float(np.float32(float(value))))
        out.append(part)
        value -= part
    return out


table('kHalfPiParts', parts(mp.pi / 2, 14, 4, False), False)
table('kHalfPiParts', parts(mp.pi / 2, 29, 4, True), True)
table('kLn2Parts', parts(ln2, 14, 2, False), False)
table('kLn2Parts', parts(ln2, 40, 2, True), True)
table('kTwoOverLn2Parts', parts(2 / ln2, 12, 2, False), False)
table('kTwoOverLn2Parts', parts(2 / ln2, 26, 2, True), True)
print('\n} // namespace ingot::aotc::kernel::coefficients')
