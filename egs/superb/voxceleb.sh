# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by the local/data.sh of sid1 and sv1 after data.sh: fetches VoxCeleb1 and iden_split.txt into downloads, which
# becomes the corpus. Checksums of the archives are those that torchaudio states; the site asks for an account, which
# curl reads from ~/.netrc.
site=https://thor.robots.ox.ac.uk/~vgg/data/voxceleb
"$fetch" https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta/iden_split.txt "$downloads"
if [[ ! -d $downloads/dev ]]; then
    while read -r part sum; do "$fetch" "$site/vox1a/vox1_dev_wav_part$part" "$downloads" "$sum"; done <<'SUMS'
aa 21ec6ca843659ebc2fdbe04b530baa4f191ad4b0971912672d92c158f32226a0
ab 311d21e0c8cbf33573a4fce6c80e5a279d80736274b381c394319fc557159a04
ac 92b64465f2b2a3dc0e4196ae8dd6828cbe9ddd1f089419a11e4cbfe2e1750df0
ad 00e6190c770b27f27d2a3dd26ee15596b17066b715ac111906861a7d09a211a5
SUMS
    cat "$downloads"/vox1_dev_wav_parta[a-d] >"$downloads/vox1_dev_wav.zip"
    unpack vox1_dev_wav.zip dev
    rm -f "$downloads/vox1_dev_wav.zip"
fi
"$fetch" $site/vox1a/vox1_test_wav.zip "$downloads" 8de57f347fe22b2c24526e9f444f689ecf5096fc2a92018cf420ff6b5b15eaea
unpack vox1_test_wav.zip test
corpus=$downloads
