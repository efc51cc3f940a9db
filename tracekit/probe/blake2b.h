// BLAKE2b of a short text, 8 bytes long: what names a kind of span in every process alike.
//
// RFC 7693. In C, so that naming a kind imports nothing into the traced process.
#pragma once
#include <string.h>
#include "abi/probe.h"

typedef __u32 u32;
typedef __u64 u64;

enum { BLAKE2B_BLOCK = 128, BLAKE2B_ROUNDS = 12 };

static const u64 blake2b_start[8] = {
	0x6a09e667f3bcc908ULL, 0xbb67ae8584caa73bULL, 0x3c6ef372fe94f82bULL, 0xa54ff53a5f1d36f1ULL,
	0x510e527fade682d1ULL, 0x9b05688c2b3e6c1fULL, 0x1f83d9abfb41bd6bULL, 0x5be0cd19137e2179ULL,
};

static const unsigned char blake2b_order[10][16] = {
	{ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
	{ 14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3 },
	{ 11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4 },
	{ 7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8 },
	{ 9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13 },
	{ 2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9 },
	{ 12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11 },
	{ 13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10 },
	{ 6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5 },
	{ 10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0 },
};

static u64 rotated(u64 word, int bits)
{
	return word >> bits | word << (64 - bits);
}

static void blake2b_mix(u64 *v, int a, int b, int c, int d, u64 x, u64 y)
{
	v[a] += v[b] + x;
	v[d] = rotated(v[d] ^ v[a], 32);
	v[c] += v[d];
	v[b] = rotated(v[b] ^ v[c], 24);
	v[a] += v[b] + y;
	v[d] = rotated(v[d] ^ v[a], 16);
	v[c] += v[d];
	v[b] = rotated(v[b] ^ v[c], 63);
}

static void blake2b_block(u64 *state, const char *block, u64 length, int last)
{
	u64 v[16], words[16];

	memcpy(words, block, sizeof(words));	// little-endian, as is all that the probe runs on
	memcpy(v, state, sizeof(blake2b_start));
	memcpy(v + 8, blake2b_start, sizeof(blake2b_start));
	v[12] ^= length;
	if (last)
		v[14] = ~v[14];
	for (int round = 0; round < BLAKE2B_ROUNDS; round++) {
		const unsigned char *s = blake2b_order[round % 10];

		for (int i = 0; i < 4; i++)	// columns
			blake2b_mix(v, i, i + 4, i + 8, i + 12, words[s[2 * i]], words[s[2 * i + 1]]);
		for (int i = 0; i < 4; i++)	// diagonals
			blake2b_mix(v, i, (i + 1) % 4 + 4, (i + 2) % 4 + 8, (i + 3) % 4 + 12,
				    words[s[2 * i + 8]], words[s[2 * i + 9]]);
	}
	for (int i = 0; i < 8; i++)
		state[i] ^= v[i] ^ v[i + 8];
}

static u64 blake2b(const char *text, size_t length)
{
	char last[BLAKE2B_BLOCK] = { 0 };
	size_t done = 0;
	u64 state[8];

	memcpy(state, blake2b_start, sizeof(state));
	state[0] ^= 0x01010000 ^ sizeof(u64);	// no key, tree of one, 8 bytes wanted
	for (; length - done > BLAKE2B_BLOCK; done += BLAKE2B_BLOCK)
		blake2b_block(state, text + done, done + BLAKE2B_BLOCK, 0);
	memcpy(last, text + done, length - done);
	blake2b_block(state, last, length, 1);
	return state[0];
}
